"""What does it cost to decode files of any kind on one thread, and what by each reader that can?

    python -m benchmarks.decoding recording.wav recording.mp3 …

Prints one table: CPU seconds for an hour of audio to 16 kHz mono, without VAD.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from deployments.audio.decode import decode, probe, resampled
from deployments.audio.libav import open_libav
from deployments.audio.source import Source
from deployments.audio.wave import open_wave
from pipelines.audio_types import DecodeLimits

LIMITS = DecodeLimits()


@contextmanager
def _clock(seconds: list[float]) -> Iterator[None]:
    started_at = time.process_time()
    yield
    seconds.append(time.process_time() - started_at)


def _by(opened: AbstractContextManager[Source | None]) -> bool:
    with opened as source:
        if source is not None:
            for _ in resampled(source.pieces()):
                pass
        return source is not None


def measure(upload: bytes) -> tuple[float, list[str]]:
    """The audio's seconds; what counting it, reading it as the server does, by PyAV and by soundfile cost an hour."""
    spent: list[float] = []
    with _clock(spent):
        duration_s = probe(upload, LIMITS).duration_s
    with _clock(spent):
        for _ in decode(upload, LIMITS):
            pass
    with _clock(spent):
        _by(open_libav(upload, LIMITS))
    with _clock(spent):
        is_wave = _by(open_wave(upload, LIMITS))
    figures = [f"{seconds * 3_600 / duration_s:.2f}" for seconds in spent]
    return duration_s, figures if is_wave else [*figures[:-1], "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    print("| file | audio, s | probe | decode | by PyAV | by soundfile |\n|---|---|---|---|---|---|")
    for path in parser.parse_args().files:
        duration_s, figures = measure(path.read_bytes())
        print(f"| {path.name} | {duration_s:.0f} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
