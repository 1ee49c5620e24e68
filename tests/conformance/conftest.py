"""What every conformance test talks to: the scripted server, and where a test says so the real one as well."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.audio import encode, joined, silence
from tests.conformance.media_server import MediaServer
from tests.conformance.wire import TIMEOUT_S, Api
from tests.conftest import Clip, Server
from tests.scripted.server import scripted_api, served

REAL = pytest.param("real", marks=pytest.mark.xdist_group("real"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Marks tell the server: `real` is the default configuration alone, `also_real` both; without, it is scripted."""
    if "server" not in metafunc.fixturenames:
        return
    if metafunc.definition.get_closest_marker("real"):
        metafunc.parametrize("server", [REAL], indirect=True, scope="session")
    elif metafunc.definition.get_closest_marker("also_real"):
        metafunc.parametrize("server", ["scripted", REAL], indirect=True, scope="session")
    else:
        metafunc.parametrize("server", ["scripted"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def scripted_server() -> Iterator[Server]:
    with served(scripted_api()) as server:
        yield server


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


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
    """A dozen English sentences, longer than one window of Whisper's."""
    return joined([clip for clip in clips if clip.language == "en"][:12])


@pytest.fixture(scope="module")
def media() -> Iterator[MediaServer]:
    with MediaServer() as server:
        yield server


@pytest.fixture(scope="module")
def speech_url(media: MediaServer, clip: Clip) -> str:
    return media.add_file("/speech.flac", clip.data, "audio/flac")
