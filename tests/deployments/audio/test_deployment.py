from pathlib import Path

import numpy as np
import pytest
import soundfile

from deployments.audio.deployment import AudioDeployment
from pipelines.audio_types import SAMPLE_RATE_HZ, AudioPage, DecodeLimits, VadOptions


async def test_whom_nobody_comes_back_for_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an ingress dies: its uploads would be held for ever where nobody else asks."""
    speech = soundfile.read(Path(__file__).parents[2] / "data" / "en-00.flac", dtype="float32")[0]
    pause = np.zeros(40 * SAMPLE_RATE_HZ, np.float32)
    soundfile.write(tmp_path / "long.flac", np.concatenate([speech, pause] * 4), SAMPLE_RATE_HZ)
    upload = np.frombuffer((tmp_path / "long.flac").read_bytes(), np.uint8)
    replica = AudioDeployment.func_or_class(DecodeLimits())  # type: ignore[call-arg]
    page = await replica.read_page("session", upload, VadOptions(), None, 0)
    assert isinstance(page, AudioPage)
    assert not page.is_last
    await replica.check_health()
    assert len(replica._parked) == 1
    monkeypatch.setattr("deployments.audio.deployment.PARKED_FOR_S", 0.0)
    await replica.check_health()
    assert not replica._parked
