from dataclasses import replace

import pytest

from pipelines.audio_types import AudioInfo
from pipelines.merging import TranscriptBuilder
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, Segment, Token, Transcript
from pipelines.transcription_events import TextDelta

INFO = AudioInfo(60.0, "wav", "pcm_s16le")


def segment(text: str, start_s: float = 0.0, end_s: float = 1.0) -> Segment:
    return Segment(start_s, end_s, text, (Token(7, text, -0.5, text.encode()),), 0.0, -0.5, 1.0, 0.0)


def chunk(index: int, *segments: Segment, language: str = "en") -> ChunkTranscript:
    return ChunkTranscript(index, language, segments)


def merge(*chunks: ChunkTranscript, language: str | None = None) -> tuple[list[TextDelta], Transcript]:
    builder = TranscriptBuilder(INFO, DecodingOptions(language=language))
    deltas = [delta for one in chunks for delta in builder.add(one)]
    return deltas, builder.finish()


@pytest.mark.parametrize("language", ["en", "de", "zh", "ja", "ko", "th", "xx"])
@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["   ", "\n"],
        [" One."],
        ["One."],
        [" One. ", " Two.\n", "Three.", "  ", "", "\tFour. "],
        ["", "  One", "two "],
        ["\u3000你好", "世界", " 再见 "],
        ["こんにちは。", "さようなら。"],
        ["\u00a0One", "\u2028Two"],
    ],
)
def test_deltas_join_to_exactly_the_text(texts: list[str], language: str) -> None:
    chunks = [chunk(i, segment(text, i, i + 1), language=language) for i, text in enumerate(texts)]
    deltas, transcript = merge(*chunks)
    assert "".join(delta.text for delta in deltas) == transcript.text
    assert transcript.text == transcript.text.strip()
    assert "".join(transcript.text.split()) == "".join("".join(texts).split())


def test_one_delta_for_each_segment_with_its_tokens() -> None:
    first, second = segment(" One."), segment(" Two.")
    deltas, transcript = merge(chunk(0, first, second))
    assert [(delta.text, delta.tokens) for delta in deltas] == [("One.", first.tokens), (" Two.", second.tokens)]
    assert transcript.tokens == first.tokens + second.tokens
    assert [part.text for part in transcript.segments] == [" One.", " Two."]


def test_chunks_are_separated_by_a_space_where_the_script_has_them() -> None:
    assert merge(chunk(0, segment("One.")), chunk(1, segment("Two.")))[1].text == "One. Two."
    assert merge(chunk(0, segment("안녕"), language="ko"), chunk(1, segment("하세요"), language="ko"))[1].text == (
        "안녕 하세요"
    )
    assert merge(chunk(0, segment("你"), language="zh"), chunk(1, segment("好"), language="zh"))[1].text == "你好"


def test_silence_is_an_empty_transcript() -> None:
    deltas, transcript = merge()
    assert deltas == []
    assert (transcript.text, transcript.segments, transcript.words, transcript.tokens) == ("", (), (), ())
    assert (transcript.info, transcript.language, transcript.finish_reason) == (INFO, "en", "stop")


def test_only_chunks_are_separated() -> None:
    """What a segment begins with is the recogniser's: it may have parted a word."""
    parted = merge(
        chunk(0, segment(" vo", 0, 1), segment("i", 1, 2), language="vi"), chunk(1, segment("x"), language="vi")
    )
    assert parted[1].text == "voi x"


def test_the_language_is_the_one_asked_for_else_what_was_spoken_longest() -> None:
    transcript = merge(
        chunk(0, segment("x", 0, 5), language="fr"),
        chunk(1, segment("y", 5, 12), language="de"),
        chunk(2, language="it"),
        chunk(3, segment("z", 12, 15), language="fr"),
    )[1]
    assert (transcript.language, transcript.languages) == ("fr", ("fr", "de"))
    assert merge(chunk(0, segment("x"), language="fr"), language="es")[1].language == "es"


def test_one_chunk_cut_by_length_makes_the_whole_so() -> None:
    cut = replace(chunk(1, segment("b")), finish_reason="length")
    assert merge(chunk(0, segment("a")), cut, chunk(2, segment("c")))[1].finish_reason == "length"


def test_token_counts_add_up() -> None:
    counted = [replace(chunk(i), num_prompt_tokens=3, num_output_tokens=10 + i) for i in range(3)]
    transcript = merge(*counted)[1]
    assert (transcript.num_prompt_tokens, transcript.num_output_tokens) == (9, 33)


def test_times_stay_inside_the_upload_and_in_order() -> None:
    _, transcript = merge(
        chunk(0, segment("a", 1, 5), segment("b", 0.5, 0.8)), chunk(1, segment("c", 58, 70), segment("d", 65, 90))
    )
    times = [(part.start_s, part.end_s) for part in transcript.segments]
    assert times == [(1, 5), (1, 1), (58, 60), (60, 60)]


def test_segments_keep_what_the_model_said_of_them() -> None:
    raw = segment(" One.", 1, 2)
    assert merge(chunk(0, raw))[1].segments == (raw,)
