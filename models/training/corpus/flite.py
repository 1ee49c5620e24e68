"""flite through its command, where it is installed: four American voices that sound unlike espeak-ng's."""

import shutil
import subprocess
import tempfile

import numpy as np
import soundfile
from numpy.typing import NDArray

# flite's phones in espeak-ng's mnemonics, so that both synthesisers share one set of labels
_MNEMONICS = dict(
    pair.split(":", 1)
    for pair in (
        "aa:A: ae:a ah:V ao:O: aw:aU ax:@ ay:aI ch:tS dh:D eh:E er:3: ey:eI hh:h ih:I iy:i: jh:dZ ng:N ow:oU oy:OI "
        "sh:S th:T uh:U uw:u: y:j zh:Z pau:_"
    ).split()
)


def is_installed() -> bool:
    return shutil.which("flite") is not None


def say(
    text: str, voice: str, stretch: float = 1.0, pitch_hz: int = 0
) -> tuple[NDArray[np.float32], int, list[tuple[str, float]]]:
    """Speak an English text.

    Args:
        voice: `slt`, `rms`, `awb` or `kal16`.
        stretch: how much longer than usual it takes.
        pitch_hz: mean pitch; 0 is the voice's own.

    Returns:
        Samples in [-1, 1], their rate, and (phone, start in seconds).
    """
    settings = ["--setf", f"duration_stretch={stretch}"]
    if pitch_hz:
        settings += ["--setf", f"int_f0_target_mean={pitch_hz}"]
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice, *settings, "-psdur", "-t", text, "-o", file.name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        samples, rate = soundfile.read(file.name, dtype="float32")
    return samples, rate, _phones(printed)


def _phones(printed: str) -> list[tuple[str, float]]:
    """`-psdur` prints `phone:end` for each; a phone starts where the one before it ends."""
    pairs = [item.split(":") for item in printed.split()]
    starts = [0.0] + [float(end) for _, end in pairs[:-1]]
    return [(_MNEMONICS.get(name, name), start) for (name, _), start in zip(pairs, starts, strict=True)]
