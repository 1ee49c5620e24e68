"""How often is a diarization pipeline wrong about who speaks, and how alike are voices to it? The card's tables.

    python -m benchmarks.diarization_accuracy
    python -m benchmarks.diarization_accuracy --source DIRECTORY --kinds libri ami

Asks the server's engine on one CPU thread for the conversations of the tests, their voices' references, and
pyannote.audio's own sample; overlap is scored, the number of speakers is unknown. Prints markdown.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scoring import (
    Conversation,
    Score,
    kind_of,
    load_conversations,
    sample_conversation,
    score,
    strangers,
    true_speakers,
)
from deployments.audio.reader import read_clip
from deployments.audio.silero import SileroModel
from deployments.diarization.engine import DiarizerArgs
from deployments.diarization.pyannote import PyannoteDiarizer
from models.sources import resolve
from pipelines.audio_types import SAMPLE_RATE_HZ, DecodeLimits, Waveform
from pipelines.speaker_types import Diarization, Embedding
from pipelines.voices import unit

KINDS = {
    "tts": "two or three synthetic voices",
    "libri": "two to four LibriSpeech readers",
    "monologue": "one reader alone",
    "talk": "two synthetic voices in turns",
    "crowd": "twenty readers",
    "dev": "AMI meeting excerpts, development set",
    "tst": "AMI meeting excerpts, test set",
    "sample": "pyannote.audio's sample, a telephone call of two",
}

REFERENCES_S = (2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Similarity:
    """Cosine of a speaker's centroid to a reference; `rank` 0 is the most similar reference of all."""

    is_own: bool
    is_present: bool
    cosine: float
    rank: int


def print_scores(diarized: Mapping[str, tuple[Conversation, Diarization]]) -> None:
    print("| conversations | DER % (collar 0.25 s) | false alarm / missed / confused | speakers counted right |")
    print("|---|---|---|---|")
    for kind, what in KINDS.items():
        pairs = [(c, found.turns) for c, found in diarized.values() if kind_of(c) == kind]
        if pairs:
            print(_line(f"{len(pairs)} of {what}", score(pairs)), flush=True)


def _line(what: str, one: Score) -> str:
    parts = " / ".join(f"{100 * part:.1f}" for part in (one.false_alarm, one.missed, one.confused))
    counted = f"{one.num_right} of {len(one.counts)}"
    if len(one.counts) == 1 and not one.num_right:
        counted = f"finds {one.counts[0][1]} of {one.counts[0][0]}"
    return f"| {what} | {100 * one.error_rate:.1f} ({100 * one.forgiving:.1f}) | {parts} | {counted} |"


def voices(files: Mapping[str, Path], diarizer: PyannoteDiarizer, max_s: float) -> dict[str, Embedding]:
    model, found = SileroModel(), {}
    for name, path in files.items():
        speech = read_clip(path.read_bytes(), model, DecodeLimits(max_duration_s=10)).speech
        voice = unit(diarizer.embed(Waveform(speech.samples[: int(max_s * SAMPLE_RATE_HZ)])))
        assert voice is not None
        found[name] = voice
    return found


def similarities(
    diarized: Iterable[tuple[Conversation, Diarization]], known: Mapping[str, Embedding]
) -> Iterator[Similarity]:
    for conversation, found in diarized:
        truth = true_speakers(conversation, found.turns)
        for speaker, centroid in found.voices.items():
            if (voice := unit(centroid)) is None or speaker not in truth:
                continue
            cosines = sorted(((float(voice @ known[name]), name) for name in known), reverse=True)
            for rank, (cosine, name) in enumerate(cosines):
                yield Similarity(name == truth[speaker], name in conversation.speakers, cosine, rank)


def print_similarities(
    diarizer: PyannoteDiarizer, diarized: Mapping[str, tuple[Conversation, Diarization]], kinds: Iterable[str]
) -> None:
    print("\n| voices, reference | own: mean (least) | others in the conversation: most | strangers: most | nearest |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        pairs = [(c, found) for c, found in diarized.values() if kind_of(c) == kind and c.references]
        files = {name: path for c, _ in pairs for name, path in c.references.items()} | strangers()
        for max_s in REFERENCES_S if pairs else ():
            found = list(similarities(pairs, voices(files, diarizer, max_s)))
            own = [one.cosine for one in found if one.is_own]
            others = max(one.cosine for one in found if one.is_present and not one.is_own)
            absent = max(one.cosine for one in found if not one.is_present)
            nearest = sum(one.is_own and one.rank == 0 for one in found)
            print(
                f"| {kind}, {max_s:g} s | {np.mean(own):.2f} ({min(own):.2f}) | {others:.2f} | {absent:.2f} "
                f"| {nearest} of {len(own)} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:speaker-diarization", help="of the pipeline")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    diarizer = PyannoteDiarizer(DiarizerArgs(resolve(options.source)))
    listed = [c for c in (*load_conversations().values(), sample_conversation()) if kind_of(c) in options.kinds]
    diarized = {c.name: (c, diarizer.diarize(c.window(), lambda: False)) for c in listed}
    print_scores(diarized)
    print_similarities(diarizer, diarized, [kind for kind in ("tts", "libri") if kind in options.kinds])


if __name__ == "__main__":
    main()
