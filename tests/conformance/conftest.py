"""What every conformance test talks to."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.audio import encode, joined, silence
from tests.conformance.wire import TIMEOUT_S, Api
from tests.conftest import Clip, Server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    with httpx.Client(base_url=server.url, timeout=TIMEOUT_S) as client:
        yield Api(server.url, client)


@pytest.fixture(scope="session")
def quiet() -> bytes:
    """Half a second of silence: answered without the model, so validation is all that it costs."""
    return encode(silence(0.5))


@pytest.fixture(scope="session")
def long_audio(clips: list[Clip]) -> bytes:
    """Every English sentence, 79 seconds: three windows of Whisper's."""
    return joined(clip for clip in clips if clip.language == "en")
