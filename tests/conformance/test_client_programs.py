"""SED: the programs that people already have, with only host, port and file names changed."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import aiohttp
import httpx
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.audio import Transcription, TranscriptionVerbose, Translation
from openai.types.chat import ChatCompletion

from tests.conformance.audio import encode, samples_of
from tests.conformance.media_server import MediaServer
from tests.conformance.scoring import normalised, word_error_rate
from tests.conftest import Clip, Server

MAX_WORD_ERROR_RATE = 0.35


@pytest.fixture
def wav(clip: Clip, tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    path.write_bytes(encode(samples_of(clip)))
    return path


@pytest.fixture
def async_client(server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="EMPTY", max_retries=0)


def assert_is(text: str, clip: Clip) -> None:
    assert word_error_rate([clip.text], [text]) < MAX_WORD_ERROR_RATE


# SED-1: vLLM's transcription client ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["openai/whisper-small", "openai/whisper-large-v3"])
def test_sed_1_sdk_call(server: Server, wav: Path, clip: Clip, model: str) -> None:
    client = OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1")
    with wav.open("rb") as file:
        transcription = client.audio.transcriptions.create(
            file=file, model=model, language="en", response_format="json", temperature=0.0
        )
    assert_is(transcription.text, clip)


def test_sed_1_sdk_call_with_sampling_extras(server: Server, wav: Path, clip: Clip) -> None:
    client = OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1")
    with wav.open("rb") as file:
        transcription = client.audio.transcriptions.create(
            file=file,
            model="openai/whisper-large-v3",
            language="en",
            response_format="json",
            temperature=0.0,
            extra_body={"seed": 4419, "repetition_penalty": 1.3},
        )
    assert isinstance(transcription, Transcription)
    assert transcription.text


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["openai/whisper-small", "openai/whisper-large-v3"])
async def test_sed_1_raw_stream(server: Server, wav: Path, clip: Clip, model: str) -> None:
    """Every line that is not empty is JSON, up to [DONE]; httpx's default read timeout of 5 s holds."""
    url = f"{server.url}/v1/audio/transcriptions"
    data = {"language": "en", "stream": True, "model": model}
    transcription = ""
    ended = False
    with wav.open("rb") as file:
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", url, files={"file": file}, data=data) as response,
        ):
            async for line in response.aiter_lines():
                if not line:
                    continue
                line = line.removeprefix("data: ")
                if line.strip() == "[DONE]":
                    ended = True
                    break
                chunk = json.loads(line)
                content = chunk["choices"][0].get("delta", {}).get("content")
                assert isinstance(content, str)
                transcription += content
    assert ended
    assert_is(transcription, clip)


async def test_sed_1_async_sdk_stream_read_as_chunks(async_client: AsyncOpenAI, wav: Path, clip: Clip) -> None:
    """vLLM's newer client: the SDK's stream, of whose events it reads `choices`."""
    transcription = ""
    with wav.open("rb") as file:
        stream = await async_client.audio.transcriptions.create(
            file=file,
            model="openai/whisper-small",
            language="en",
            response_format="json",
            temperature=0.0,
            extra_body={"seed": 420, "top_p": 0.6},
            stream=True,
        )
        async for chunk in stream:
            choices: list[dict[str, Any]] = getattr(chunk, "choices", [])
            if choices:
                transcription += choices[0].get("delta", {}).get("content")
    assert_is(transcription, clip)


# SED-2: vLLM's audio chat client ---------------------------------------------------------------------------------


@pytest.fixture
def audio_url(clip: Clip) -> Iterator[str]:
    with MediaServer() as server:
        speech = encode(samples_of(clip), container="OGG", subtype="VORBIS")
        yield server.add_file("/winning_call.ogg", speech, "audio/ogg")


def assert_tells(text: str | None, clip: Clip) -> None:
    """These programs ask for no transcript, but some of its longer words are there."""
    words = {word for word in normalised(clip.text).split() if len(word) > 5}
    assert words & set(normalised(text or "").split()), text


def assert_heard(answer: ChatCompletion) -> None:
    """The program draws its answer, so a small model may say anything; but it was given the audio."""
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.audio_tokens


@pytest.mark.also_real
def test_sed_2_audio_url_and_data_url(server: Server, audio_url: str) -> None:
    client = OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1")
    models = client.models.list()
    model = models.data[0].id

    chat_completion_from_url = client.chat.completions.create(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What's in this audio?"},
                    {"type": "audio_url", "audio_url": {"url": audio_url}},  # type: ignore[list-item]
                ],
            }
        ],
        model=model,
        max_tokens=64,
    )
    assert_heard(chat_completion_from_url)

    response = httpx.get(audio_url)
    response.raise_for_status()
    audio_base64 = base64.b64encode(response.content).decode("utf-8")
    chat_completion_from_base64 = client.chat.completions.create(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What's in this audio?"},
                    {"type": "audio_url", "audio_url": {"url": f"data:audio/ogg;base64,{audio_base64}"}},  # type: ignore[list-item]
                ],
            }
        ],
        model=model,
        max_tokens=64,
    )
    assert_heard(chat_completion_from_base64)


def test_sed_2_the_newer_client_s_input_audio(server: Server, audio_url: str, clip: Clip) -> None:
    """The format says wav whatever the file is."""
    client = OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1")
    audio_base64 = base64.b64encode(httpx.get(audio_url).content).decode("utf-8")
    chat_completion = client.chat.completions.create(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What's in this audio?"},
                    {"type": "input_audio", "input_audio": {"data": audio_base64, "format": "wav"}},
                ],
            }
        ],
        model=client.models.list().data[0].id,
        max_completion_tokens=64,
    )
    assert_tells(chat_completion.choices[0].message.content, clip)


def test_sed_2_the_newer_client_without_audio(server: Server) -> None:
    client = OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1")
    chat_completion = client.chat.completions.create(
        messages=[{"role": "user", "content": "What's the capital of France?"}],
        model=client.models.list().data[0].id,
        max_completion_tokens=64,
    )
    assert chat_completion.choices[0].message.content


# SED-3: production-stack -----------------------------------------------------------------------------------------


def test_sed_3_curl_fields(server: Server, wav: Path, clip: Clip) -> None:
    response = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": (wav.name, wav.read_bytes(), "audio/wav")},
        data={"model": "openai/whisper-small", "response_format": "json", "language": "en"},
        timeout=60,
    )
    assert response.status_code == 200
    assert_is(response.json()["text"], clip)


@pytest.mark.also_real
@pytest.mark.parametrize("fields", [["response_format=json", "language=en"], ["stream=true"]])
def test_sed_3_curl(server: Server, wav: Path, clip: Clip, fields: list[str]) -> None:
    if which("curl") is None:
        pytest.skip("curl is not installed")
    body = curl(server, f"file=@{wav};type=audio/wav", "model=openai/whisper-small", *fields)
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line and line != "data: [DONE]"]
    assert_is(json.loads(lines[-1])["text"], clip)


def curl(server: Server, *fields: str) -> str:
    form = [argument for field in fields for argument in ("-F", field)]
    url = f"{server.url}/v1/audio/transcriptions"
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "-X", "POST", url, *form]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.also_real
async def test_sed_3_aiohttp_stream(server: Server, wav: Path, clip: Clip) -> None:
    form = aiohttp.FormData()
    with wav.open("rb") as file:
        form.add_field("file", file, filename="audio.wav", content_type="audio/wav")
        form.add_field("model", "openai/whisper-small")
        form.add_field("stream", "true")
        printed = []
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.url}/v1/audio/transcriptions", data=form) as response,
        ):
            assert response.status == 200
            while line := await response.content.readline():
                text = line.decode("utf-8").strip()
                if text.startswith("data: "):
                    printed.append(text.removeprefix("data: "))
    assert printed[-1] == "[DONE]"
    texts = [json.loads(event)["text"] for event in printed[:-1]]
    assert_is("".join(texts[:-1]), clip)


@pytest.mark.real
@pytest.mark.parametrize("stream", ["false", "true"])
async def test_sed_3_what_the_router_forwards(server: Server, wav: Path, clip: Clip, stream: str) -> None:
    """The router reads the form and sends it again by aiohttp, each text part with a charset."""
    form = aiohttp.FormData()
    form.add_field("file", wav.read_bytes(), filename="audio.wav", content_type="audio/wav")
    for name, value in {
        "model": "openai/whisper-small",
        "prompt": "",
        "response_format": "json",
        "temperature": "0.0",
        "language": "en",
        "stream": stream,
    }.items():
        form.add_field(name, value, content_type="text/plain; charset=utf-8")
    headers = {"Authorization": "Bearer anything", "X-Request-Id": "from-the-router"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/audio/transcriptions", data=form, headers=headers) as response,
    ):
        assert response.status == 200
        assert response.headers.getall("x-request-id") == ["from-the-router"]
        body = (await response.read()).decode()
    if stream == "true":
        events = [line.removeprefix("data: ") for line in body.splitlines() if line]
        assert events[-1] == "[DONE]"
        body = events[-2]
    assert_is(json.loads(body)["text"], clip)


# SED-4: the API reference ----------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe", "whisper-1"])
def test_sed_4_transcription(server: Server, wav: Path, clip: Clip, model: str) -> None:
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(model=model, file=audio_file)
    assert_is(transcript.text, clip)


async def test_sed_4_async_transcription(async_client: AsyncOpenAI, wav: Path, clip: Clip) -> None:
    with wav.open("rb") as audio_file:
        transcript = await async_client.audio.transcriptions.create(model="gpt-4o-transcribe", file=audio_file)
    assert_is(transcript.text, clip)


@pytest.mark.also_real
def test_sed_4_logprobs(server: Server, wav: Path) -> None:
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(
            file=audio_file, model="gpt-4o-transcribe", response_format="json", include=["logprobs"]
        )
    assert isinstance(transcript, Transcription)
    assert transcript.logprobs
    assert transcript.logprobs[0].token is not None


def test_sed_4_segments(server: Server, wav: Path, clip: Clip) -> None:
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(
            file=audio_file, model="whisper-1", response_format="verbose_json", timestamp_granularities=["segment"]
        )
    assert isinstance(transcript, TranscriptionVerbose)
    assert transcript.segments
    assert_is("".join(segment.text for segment in transcript.segments), clip)


@pytest.mark.also_real
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's translations
def test_sed_4_translation(server: Server, clips: list[Clip]) -> None:
    french = next(clip for clip in clips if clip.language == "fr")
    with french.path.open("rb") as audio_file:
        translation = server.client.audio.translations.create(model="whisper-1", file=audio_file)
    assert isinstance(translation, Translation)
    assert isinstance(translation.text, str)


# SED-5: the speech-to-text guide, without diarization -------------------------------------------------------------


@pytest.mark.also_real
def test_sed_5_word_timestamps(server: Server, wav: Path, clip: Clip) -> None:
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(
            file=audio_file, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
        )
    assert isinstance(transcript, TranscriptionVerbose)
    assert transcript.words
    assert_is(" ".join(word.word for word in transcript.words), clip)
    assert not transcript.segments


def test_sed_5_text_with_a_prompt(server: Server, wav: Path, clip: Clip) -> None:
    """The SDK types the answer as a Transcription, but a text format arrives as a plain str."""
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(
            model="gpt-4o-transcribe",
            file=audio_file,
            response_format="text",
            prompt="The following conversation is about travelling to Madrid.",
        )
    assert isinstance(transcript, str)
    assert transcript.endswith("\n")
    assert transcript.strip()


def test_sed_5_whisper_with_a_prompt(server: Server, wav: Path) -> None:
    with wav.open("rb") as audio_file:
        transcript = server.client.audio.transcriptions.create(
            model="whisper-1", file=audio_file, response_format="text", prompt="ZyntriQix, Digique Plus, CynapseFive"
        )
    assert isinstance(transcript, str)


@pytest.mark.also_real
def test_sed_5_stream_with_response_format_text(server: Server, wav: Path, clip: Clip) -> None:
    with wav.open("rb") as audio_file:
        stream = server.client.audio.transcriptions.create(
            model="gpt-4o-mini-transcribe", file=audio_file, response_format="text", stream=True
        )
        events = list(stream)
    assert [event.type for event in events][-1] == "transcript.text.done"
    assert_is("".join(event.delta for event in events if event.type == "transcript.text.delta"), clip)


async def test_sed_5_async_stream_with_response_format_text(async_client: AsyncOpenAI, wav: Path, clip: Clip) -> None:
    with wav.open("rb") as audio_file:
        stream = await async_client.audio.transcriptions.create(
            model="gpt-4o-mini-transcribe", file=audio_file, response_format="text", stream=True
        )
        events = [event async for event in stream]
    assert_is("".join(event.delta for event in events if event.type == "transcript.text.delta"), clip)


def test_sed_5_curl_with_python_s_true(server: Server, wav: Path, clip: Clip) -> None:
    response = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        headers={"Authorization": "Bearer sk-anything"},
        files={"file": (wav.name, wav.read_bytes(), "audio/x-wav")},
        data={"model": "gpt-4o-mini-transcribe", "response_format": "text", "stream": "True"},
        timeout=60,
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    done = json.loads(response.text.split("data: ")[-2])
    assert done["type"] == "transcript.text.done"
    assert_is(done["text"], clip)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's translations
def test_sed_5_german_translation(server: Server, clips: list[Clip]) -> None:
    german = next(clip for clip in clips if clip.language == "de")
    with german.path.open("rb") as audio_file:
        translation = server.client.audio.translations.create(model="whisper-1", file=audio_file)
    assert translation.text
