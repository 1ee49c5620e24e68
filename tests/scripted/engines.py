"""Whisper and a diarizer without a model: they answer what they know by heart.

Recordings that nobody knows are heard as nothing. Everything is derived from audio and options, so answers repeat.
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.scoring import load_conversations, strangers
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioChunk, AudioStretch, Samples, Waveform
from pipelines.speaker_types import Diarization, Embedding, SpeakerTurn
from pipelines.transcript_types import ChunkTranscript, DecodingOptions, RecognizerInfo, Segment, Token, Word, Work
from pipelines.whisper import MAX_PROMPT_TOKENS, compression_ratio
from tests.scripted.recordings import Heard, likeness, listen, load, spread

LANGUAGES = frozenset({"en", "de", "es", "fr"})
LOGPROB = -0.1
MIN_VOICE_LIKENESS = 0.5

ENGLISH = {
    "Nos vemos a las siete en Lisboa.": "We meet at seven o'clock in Lisbon.",
    "El tiempo en Praga es terrible hoy.": "The weather in Prague is terrible today.",
    "Le train pour New York part à cinq heures trente.": "The train to New York leaves at five thirty.",
}

Observe = Callable[[Work], None]


@dataclass
class ScriptedRecognizer:
    """`pipelines.ports.Recognizer`"""

    observe: Observe

    async def transcribe(
        self, chunk: AudioChunk, options: DecodingOptions, is_first_step: bool = True
    ) -> ChunkTranscript:
        transcript = await asyncio.to_thread(_transcribe, chunk, options)
        self.observe(Work(0.0, 0.001, 1.0))
        return transcript

    async def info(self) -> RecognizerInfo:
        return RecognizerInfo(LANGUAGES, frozenset({"transcribe", "translate"}))


def _transcribe(chunk: AudioChunk, options: DecodingOptions) -> ChunkTranscript:
    heard = listen(chunk.waveform.samples)
    segments, num_left = [], options.max_tokens or 10_000
    for one in heard:
        if segment := _segment(chunk, one, options, num_left):
            segments.append(segment)
            num_left -= len(segment.tokens)
    num_tokens = sum(len(segment.tokens) for segment in segments)
    is_cut = num_tokens < sum(len(_text(one, options).split()) for one in heard)
    return ChunkTranscript(
        chunk.index,
        _language(heard, options),
        tuple(segments),
        "length" if is_cut else "stop",
        num_prompt_tokens=3 + len(options.prompt.split()[-MAX_PROMPT_TOKENS:]),
        num_output_tokens=num_tokens,
    )


def _language(heard: list[Heard], options: DecodingOptions) -> str:
    if options.language:
        return options.language
    spoken = heard[0].sentence.language if heard else "en"
    return spoken if spoken in options.languages or not options.languages else options.languages[0]


def _text(heard: Heard, options: DecodingOptions) -> str:
    text = heard.sentence.text
    return ENGLISH.get(text, text) if options.task == "translate" else text


def _segment(chunk: AudioChunk, heard: Heard, options: DecodingOptions, max_tokens: int) -> Segment | None:
    start_s, end_s = chunk.offset_s + heard.start_s, chunk.offset_s + heard.end_s
    words = spread(_text(heard, options), start_s, end_s)[:max_tokens]
    if not words:
        return None
    text = "".join(f" {word}" for word, *_ in words)
    return Segment(
        start_s,
        words[-1][2],
        text,
        tuple(_token(f" {word}") for word, *_ in words),
        temperature=options.temperature,
        avg_logprob=LOGPROB,
        compression_ratio=compression_ratio(text),
        no_speech_prob=0.01,
        seek_s=chunk.offset_s,
        words=tuple(Word(word, first, last, 0.9) for word, first, last in words),
    )


def _token(text: str) -> Token:
    return Token(zlib.crc32(text.encode()) % 50_000, text, LOGPROB, text.encode())


@dataclass
class ScriptedDiarizer:
    """`pipelines.ports.Diarizer`: whose sentence it is tells who speaks. A voice is an axis of its own."""

    observe: Observe

    async def diarize(self, window: AudioStretch, is_first_step: bool = True) -> Diarization:
        heard = await asyncio.to_thread(listen, window.pcm / np.float32(32_768))
        self.observe(Work(0.0, 0.001, 1.0))
        speakers = sorted({one.sentence.speaker for one in heard})
        turns = tuple(
            SpeakerTurn(
                window.offset_s + one.start_s, window.offset_s + one.end_s, speakers.index(one.sentence.speaker)
            )
            for one in heard
        )
        return Diarization(turns, turns, {number: _voice(name) for number, name in enumerate(speakers)})

    async def embed(self, speech: Waveform, is_first_step: bool = True) -> Embedding:
        self.observe(Work(0.0, 0.001, 1.0))
        return _voice(await asyncio.to_thread(_whose, speech.samples))


def _whose(speech: Samples) -> str:
    alike = {name: likeness(speech, reference) for name, reference in _references().items()}
    best = max(alike, key=lambda name: alike[name])
    return best if alike[best] >= MIN_VOICE_LIKENESS else "nobody"


@cache
def _references() -> dict[str, Samples]:
    """One voice each: those of the talk, and strangers'."""
    paths = {**strangers(), **load_conversations()["talk"].references}
    return {name: load(path)[: 10 * SAMPLE_RATE_HZ] for name, path in paths.items()}


def _voice(name: str) -> Embedding:
    names = ["", "nobody", *_references()]
    voice = np.zeros(len(names), np.float32)
    voice[names.index(name)] = 1.0
    return voice
