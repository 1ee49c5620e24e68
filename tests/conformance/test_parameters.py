"""TRP: every parameter of a transcription, with values that are taken and values that are refused."""

import json
from typing import Any

import pytest

from tests.conformance.audio import encode, silence
from tests.conformance.scoring import word_error_rate
from tests.conformance.wire import Api, assert_refused
from tests.conftest import ASR_MODEL, Clip

WHISPER, GPT_4O, GPT, DIARIZE = "whisper-1", "gpt-4o-transcribe", "gpt-transcribe", "gpt-4o-transcribe-diarize"
FAMILIES = (WHISPER, GPT_4O, GPT, DIARIZE)

FORMATS = {
    WHISPER: ("json", "text", "srt", "verbose_json", "vtt"),
    GPT_4O: ("json", "text"),
    GPT: ("json", "text"),
    DIARIZE: ("json", "text", "diarized_json"),
}
ALL_FORMATS = (*FORMATS[WHISPER], "diarized_json")


def every_family(value: str) -> list[tuple[str, str]]:
    return [(model, value) for model in FAMILIES]


def vad(**options: Any) -> str:
    return json.dumps({"type": "server_vad", **options})


# TRP-01 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_trp_01_file_is_required(api: Api) -> None:
    assert_refused(api.transcribe(None), 400, "file", None)


def test_trp_01_file_as_text_is_refused(api: Api) -> None:
    assert_refused(api.transcribe(None, file="speech.wav"), 400, "file", None)


@pytest.mark.also_real
@pytest.mark.parametrize(
    "upload",
    [
        b"",
        b"This is no audio at all.",
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64),
        b'{"file": "speech.wav"}',
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/secret.wav\n",
        bytes(range(256)) * 40,
        encode(silence(1))[:44],
        encode(silence(1), container="FLAC")[:60],
    ],
    ids=["empty", "text", "png", "json", "playlist", "bytes", "header-of-wav", "header-of-flac"],
)
def test_trp_01_what_is_not_audio_is_refused(api: Api, upload: bytes) -> None:
    assert_refused(api.transcribe(upload), 400, "file", None)


@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 44_100])
def test_trp_01_less_than_a_tenth_of_a_second_is_too_short(api: Api, sample_rate_hz: int) -> None:
    upload = encode(silence(0.09, sample_rate_hz), sample_rate_hz)
    assert_refused(api.transcribe(upload), 400, "file", code="audio_too_short")


@pytest.mark.also_real
@pytest.mark.parametrize("sample_rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_trp_01_a_tenth_of_a_second_is_enough(api: Api, sample_rate_hz: int) -> None:
    response = api.transcribe(encode(silence(0.1, sample_rate_hz), sample_rate_hz))
    assert (response.status_code, response.json()["text"]) == (200, "")


# TRP-02 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, ""], ids=["missing", "empty"])
def test_trp_02_model_is_required(api: Api, quiet: bytes, model: str | None) -> None:
    assert_refused(api.transcribe(quiet, model=model), 400, "model", None)


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["whisper-9", "WHISPER-1", "openai/whisper-huge", "../models", "whisper 1"])
def test_trp_02_unknown_model(api: Api, quiet: bytes, model: str) -> None:
    assert_refused(api.transcribe(quiet, model=model), 404, "model", code="model_not_found")


@pytest.mark.also_real
@pytest.mark.parametrize("model", [ASR_MODEL, "openai/whisper-small", "openai/whisper-large-v3", *FAMILIES])
def test_trp_02_ids_and_aliases_are_served(api: Api, quiet: bytes, model: str) -> None:
    assert api.transcribe(quiet, model=model).status_code == 200


# TRP-03 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(("model", "language"), [*((WHISPER, each) for each in ("de", "en", "")), *every_family("es")])
def test_trp_03_language(api: Api, quiet: bytes, model: str, language: str) -> None:
    assert api.transcribe(quiet, model=model, language=language).status_code == 200


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("model", "language"),
    [*((WHISPER, each) for each in ("english", "e", "en,de", "12", "ünï", "auto", "und", "en-")), *every_family("xx")],
)
def test_trp_03_what_is_no_language(api: Api, quiet: bytes, model: str, language: str) -> None:
    response = api.transcribe(quiet, model=model, language=language)
    assert_refused(response, 400, "language", code="invalid_language_format")


@pytest.mark.real
@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("EN", "english"),
        ("eng", "english"),
        ("en_US", "english"),
        ("pt-BR", "portuguese"),
        ("zh-Hans-CN", "chinese"),
        ("cmn", "chinese"),
        ("deu", "german"),
        ("nb", "norwegian"),
        ("nob", "norwegian"),
        ("nn", "nynorsk"),
        ("jv", "javanese"),
        ("iw", "hebrew"),
        ("fil", "tagalog"),
    ],
)
def test_trp_03_other_codes_of_a_language(api: Api, quiet: bytes, language: str, name: str) -> None:
    """Answers keep Whisper's own."""
    answer = api.transcribe(quiet, language=language, response_format="verbose_json").json()
    assert answer["language"] == name


def test_trp_03_language_reaches_the_decoder(api: Api, clips: list[Clip]) -> None:
    german = next(clip for clip in clips if clip.language == "de")
    assert api.transcribe(german.data, language="fr", response_format="verbose_json").json()["language"] == "french"
    assert api.transcribe(german.data, response_format="verbose_json").json()["language"] == "german"


# TRP-04 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("model", [WHISPER, GPT_4O, GPT])
@pytest.mark.parametrize(
    "prompt",
    ["word " * 2_000, "", "Madrid.", "O'Brien, Müller & Søn — 東京 🎧", "<|endoftext|><|startoftranscript|>"],
    ids=["long", "empty", "short", "unicode", "special-tokens"],
)
def test_trp_04_prompt_is_never_an_error(api: Api, clip: Clip, model: str, prompt: str) -> None:
    response = api.transcribe(clip.data, model=model, prompt=prompt, language="en")
    assert response.status_code == 200
    assert isinstance(response.json()["text"], str)


def test_trp_04_only_the_tail_of_a_long_prompt_counts(api: Api, clip: Clip) -> None:
    tail = "We meet at ten. " * 100
    first, second = (
        api.transcribe(clip.data, language="en", prompt=head + tail).json()["text"]
        for head in ("Something else. " * 200, "The weather is bad today. " * 200)
    )
    assert first == second


# TRP-05 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("response_format", ALL_FORMATS)
def test_trp_05_response_format(api: Api, quiet: bytes, model: str, response_format: str) -> None:
    response = api.transcribe(quiet, model=model, response_format=response_format)
    if response_format in FORMATS[model]:
        assert response.status_code == 200
    else:
        assert_refused(response, 400, "response_format", code="unsupported_value")


@pytest.mark.also_real
@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("response_format", ["xml", "JSON"])
def test_trp_05_unknown_response_format(api: Api, quiet: bytes, model: str, response_format: str) -> None:
    response = api.transcribe(quiet, model=model, response_format=response_format)
    assert_refused(response, 400, "response_format", code="invalid_value")


# TRP-06 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("temperature", ["0.4", "0", "0.0", "1", "1.0", ""])
def test_trp_06_temperature(api: Api, clip: Clip, temperature: str) -> None:
    assert api.transcribe(clip.data, temperature=temperature).status_code == 200


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("model", "temperature"),
    [*((WHISPER, each) for each in ("-0.1", "1.01", "nan", "inf", "-inf", "warm", "0,5")), *every_family("2")],
)
def test_trp_06_temperature_out_of_range(api: Api, quiet: bytes, model: str, temperature: str) -> None:
    assert_refused(api.transcribe(quiet, model=model, temperature=temperature), 400, "temperature")


# TRP-07 ----------------------------------------------------------------------------------------------------------

GRANULARITIES = "timestamp_granularities[]"


@pytest.mark.also_real
@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt"])
def test_trp_07_words_need_verbose_json(api: Api, quiet: bytes, response_format: str) -> None:
    response = api.transcribe(quiet, response_format=response_format, **{GRANULARITIES: "word"})
    assert_refused(response, 400, "timestamp_granularities")


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt", "verbose_json"])
def test_trp_07_segments_are_harmless(api: Api, quiet: bytes, response_format: str) -> None:
    response = api.transcribe(quiet, response_format=response_format, **{GRANULARITIES: "segment"})
    assert response.status_code == 200


def test_trp_07_unknown_granularity(api: Api, quiet: bytes) -> None:
    response = api.transcribe(quiet, response_format="verbose_json", **{GRANULARITIES: ["segment", "sentence"]})
    assert_refused(response, 400, "timestamp_granularities")


@pytest.mark.parametrize("model", [GPT_4O, GPT, DIARIZE])
def test_trp_07_other_families_have_no_words(api: Api, quiet: bytes, model: str) -> None:
    assert_refused(api.transcribe(quiet, model=model, **{GRANULARITIES: "word"}), 400, "timestamp_granularities")


# TRP-08 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_trp_08_include_logprobs(api: Api, clip: Clip) -> None:
    answer = api.transcribe(clip.data, model=GPT_4O, **{"include[]": "logprobs"}).json()
    assert answer["logprobs"]


@pytest.mark.parametrize("model", [WHISPER, GPT, DIARIZE])
def test_trp_08_other_families_refuse_include(api: Api, quiet: bytes, model: str) -> None:
    assert_refused(api.transcribe(quiet, model=model, **{"include[]": "logprobs"}), 400, "include")


@pytest.mark.also_real
def test_trp_08_include_needs_json(api: Api, quiet: bytes) -> None:
    response = api.transcribe(quiet, model=GPT_4O, response_format="text", **{"include[]": "logprobs"})
    assert_refused(response, 400, "include")


def test_trp_08_unknown_include(api: Api, quiet: bytes) -> None:
    assert_refused(api.transcribe(quiet, model=GPT_4O, **{"include[]": "everything"}), 400, "include")


# TRP-09 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("model", "stream"), [*((WHISPER, each) for each in ("True", "TRUE", "1")), *every_family("true")]
)
def test_trp_09_stream(api: Api, quiet: bytes, model: str, stream: str) -> None:
    response = api.transcribe(quiet, model=model, response_format="text", stream=stream)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("stream", ["false", "False", "FALSE", "0", ""])
def test_trp_09_no_stream(api: Api, quiet: bytes, stream: str) -> None:
    response = api.transcribe(quiet, stream=stream)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("stream", ["maybe", "2", "-1", "0.5", "None", "truee"])
def test_trp_09_not_a_boolean(api: Api, quiet: bytes, stream: str) -> None:
    assert_refused(api.transcribe(quiet, stream=stream), 400, "stream")


@pytest.mark.also_real
@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
def test_trp_09_timed_formats_are_not_streamed(api: Api, quiet: bytes, response_format: str) -> None:
    response = api.transcribe(quiet, stream="true", response_format=response_format)
    assert_refused(response, 400, "stream", "response_format")


# TRP-10 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    "strategy",
    [
        "auto",
        "",
        vad(),
        vad(threshold=0),
        vad(threshold=1),
        vad(threshold=0.4, prefix_padding_ms=0, silence_duration_ms=0),
        vad(prefix_padding_ms=1000, silence_duration_ms=500),
    ],
)
def test_trp_10_chunking_strategy(api: Api, quiet: bytes, strategy: str) -> None:
    assert api.transcribe(quiet, chunking_strategy=strategy).status_code == 200


@pytest.mark.parametrize("strategy", ["auto", vad(threshold=0.4)])
@pytest.mark.parametrize("model", [GPT_4O, GPT, DIARIZE])
def test_trp_10_every_family_has_it(api: Api, quiet: bytes, model: str, strategy: str) -> None:
    assert api.transcribe(quiet, model=model, chunking_strategy=strategy).status_code == 200


@pytest.mark.also_real
@pytest.mark.parametrize(
    "strategy",
    [
        "always",
        "[]",
        "{}",
        "{not json",
        '{"type": "semantic_vad"}',
        '{"threshold": 0.5}',
        vad(threshold=1.1),
        vad(threshold=-0.1),
        vad(threshold="loud"),
        vad(prefix_padding_ms=-1),
        vad(prefix_padding_ms=0.5),
        vad(silence_duration_ms=-1),
        vad(silence_duration_ms="long"),
    ],
)
def test_trp_10_wrong_chunking_strategy(api: Api, quiet: bytes, strategy: str) -> None:
    response = api.transcribe(quiet, chunking_strategy=strategy)
    assert response.status_code == 400
    param = response.json()["error"]["param"]
    assert param.startswith("chunking_strategy")
    assert_refused(response, 400, param)


@pytest.mark.parametrize("strategy", ["auto", vad(), vad(threshold=0.6, silence_duration_ms=400)])
def test_trp_10_speech_is_found_with_every_strategy(api: Api, clip: Clip, strategy: str) -> None:
    answer = api.transcribe(clip.data, chunking_strategy=strategy).json()
    assert word_error_rate([clip.text], [answer["text"]]) < 0.35


# TRP-11, TRP-12 --------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("model", [WHISPER, GPT_4O, GPT])
@pytest.mark.parametrize("name", ["known_speaker_names", "known_speaker_references"])
def test_trp_11_speakers_need_a_diarizing_model(api: Api, quiet: bytes, model: str, name: str) -> None:
    response = api.transcribe(quiet, model=model, **{f"{name}[]": "data:audio/wav;base64,AAAA"})
    assert_refused(response, 400, "known_speaker_names", "known_speaker_references")


@pytest.mark.also_real
@pytest.mark.parametrize(
    "fields",
    [{"keywords[]": ["Madrid", "Lisbon"]}, {"languages[]": ["en", "de"]}, {"languages[]": "fr"}],
    ids=["keywords", "languages", "one-language"],
)
def test_trp_12_keywords_and_languages(api: Api, clip: Clip, fields: dict[str, Any]) -> None:
    assert api.transcribe(clip.data, model=GPT, **fields).status_code == 200


@pytest.mark.also_real
def test_trp_12_detection_keeps_to_languages(api: Api, clip: Clip) -> None:
    assert clip.language == "en"
    answer = api.transcribe(clip.data, model=GPT, **{"languages[]": ["de", "fr"]}).json()
    (language,) = answer["languages"]
    assert language["code"] in {"de", "fr"}


@pytest.mark.parametrize("model", [WHISPER, GPT_4O, DIARIZE])
@pytest.mark.parametrize(("name", "value"), [("keywords", "Madrid"), ("languages", "en")])
def test_trp_12_other_families_refuse_them(api: Api, quiet: bytes, model: str, name: str, value: str) -> None:
    assert_refused(api.transcribe(quiet, model=model, **{f"{name}[]": value}), 400, name)


@pytest.mark.parametrize("keyword", ["<script>", "a<b", "a>b", "two\nlines", "two\rlines"])
def test_trp_12_what_is_no_keyword(api: Api, quiet: bytes, keyword: str) -> None:
    assert_refused(api.transcribe(quiet, model=GPT, **{"keywords[]": ["Madrid", keyword]}), 400, "keywords")


def test_trp_12_unknown_language(api: Api, quiet: bytes) -> None:
    assert_refused(api.transcribe(quiet, model=GPT, **{"languages[]": ["en", "xx"]}), 400, "languages")


def test_trp_12_language_and_languages(api: Api, quiet: bytes) -> None:
    response = api.transcribe(quiet, model=GPT, language="en", **{"languages[]": "en"})
    assert_refused(response, 400, "languages", "language")


# TRP-13 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "0"),
        ("seed", "-9223372036854775808"),
        ("seed", "9223372036854775807"),
        ("top_p", "0.1"),
        ("top_p", "1"),
        ("top_k", "-1"),
        ("top_k", "0"),
        ("top_k", "5"),
        ("min_p", "0"),
        ("min_p", "1"),
        ("repetition_penalty", "0.5"),
        ("repetition_penalty", "1.3"),
        ("frequency_penalty", "-2"),
        ("frequency_penalty", "2"),
        ("presence_penalty", "-2"),
        ("presence_penalty", "2"),
        ("max_completion_tokens", "1"),
        ("max_completion_tokens", "1000"),
        ("use_beam_search", "false"),
        ("n", "1"),
        ("length_penalty", "1.0"),
        ("hotwords", "Madrid Lisbon"),
        ("to_language", "fr"),
        ("without_timestamps", "true"),
        ("without_timestamps", "false"),
        ("vad_filter", "true"),
        ("vllm_xargs", '{"a": 1}'),
        ("vllm_xargs[a]", "1"),
        ("include_stop_str_in_output", "true"),
        ("penalty_decay", "0.9"),
    ],
)
def test_trp_13_extras(api: Api, clip: Clip, name: str, value: str) -> None:
    response = api.transcribe(clip.data, language="en", temperature="0.2", **{name: value})
    assert response.status_code == 200, response.text


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "1.5"),
        ("seed", "lucky"),
        ("seed", "9223372036854775808"),
        ("top_p", "0"),
        ("top_p", "1.1"),
        ("top_p", "nan"),
        ("top_k", "-2"),
        ("top_k", "1.5"),
        ("min_p", "-0.1"),
        ("min_p", "1.1"),
        ("repetition_penalty", "0"),
        ("repetition_penalty", "-1"),
        ("repetition_penalty", "inf"),
        ("frequency_penalty", "-2.1"),
        ("frequency_penalty", "2.1"),
        ("presence_penalty", "-2.1"),
        ("presence_penalty", "2.1"),
        ("max_completion_tokens", "0"),
        ("max_completion_tokens", "-1"),
        ("max_completion_tokens", "many"),
        ("use_beam_search", "maybe"),
        ("n", "0"),
        ("n", "11"),
        ("length_penalty", "long"),
        ("without_timestamps", "maybe"),
        ("vad_filter", "maybe"),
        ("stream_include_usage", "maybe"),
    ],
)
def test_trp_13_extras_out_of_range(api: Api, quiet: bytes, name: str, value: str) -> None:
    assert_refused(api.transcribe(quiet, **{name: value}), 400, name)


@pytest.mark.parametrize("model", FAMILIES)
def test_trp_13_every_family_has_the_extras(api: Api, quiet: bytes, model: str) -> None:
    assert api.transcribe(quiet, model=model, top_p="0.5").status_code == 200
    assert_refused(api.transcribe(quiet, model=model, top_p="2"), 400, "top_p")


@pytest.mark.real
def test_trp_13_same_seed_same_text(api: Api, clips: list[Clip]) -> None:
    spanish = [clip for clip in clips if clip.language == "es"]

    def texts(seed: int) -> list[str]:
        return [api.transcribe(clip.data, temperature="1", seed=str(seed)).json()["text"] for clip in spanish[:2]]

    first = texts(1)
    assert texts(1) == first
    assert any(texts(seed) != first for seed in (2, 3))


def test_trp_13_max_completion_tokens_cuts_the_answer(api: Api, clip: Clip) -> None:
    stream = api.stream(clip.data, max_completion_tokens="3")
    assert stream.done["choices"][0]["finish_reason"] == "length"
    assert len(stream.done["text"]) < len(api.transcribe(clip.data).json()["text"])


@pytest.mark.also_real
@pytest.mark.parametrize("name", ["stream_include_usage", "stream_continuous_usage_stats", "stream_include_times"])
def test_trs_10_stream_options_need_stream(api: Api, quiet: bytes, name: str) -> None:
    assert_refused(api.transcribe(quiet, **{name: "true"}), 400, name)


# GEN-06 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_gen_06_unknown_fields_are_ignored(api: Api, quiet: bytes) -> None:
    response = api.transcribe(quiet, colour="blue", **{"nested[a][b]": "1", "list[]": ["1", "2"], "[": "x", "": "y"})
    assert response.status_code == 200, response.text
