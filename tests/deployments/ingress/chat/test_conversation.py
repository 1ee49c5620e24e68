"""CHT-04 to CHT-08: what becomes of messages, and which of their parts is to blame."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.ingress.chat.conversation import ConversationReader, audio_parts, check_audio
from deployments.ingress.chat.ears import Heard, OwnEars
from deployments.ingress.chat.schema import ChatRequest
from deployments.ingress.http.errors import RequestTooLarge
from deployments.ingress.media.fetch import FetchLimits, MediaFetcher
from deployments.model_configs import ChatModelConfig
from pipelines.audio_types import SAMPLE_RATE_HZ
from pipelines.chat_types import AudioPart, ChatModelInfo, Message, TextPart
from pipelines.errors import (
    AudioTooLong,
    AudioTooShort,
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    UndecodableAudio,
)
from tests.support.fakes import FakeReader
from tests.support.ports import settle

MODEL = ChatModelConfig.model_validate({"id": "m", "task": "chat", "max_audios": 4, "max_audio_s": 60.0})
HEARS = ChatModelInfo(hears_audio=True, max_audio_s=None, max_context_tokens=100)
URL = "http://example.com/a.wav"


@dataclass
class Reader(FakeReader):
    """Every upload is as many seconds long as its text says."""

    duration_s: float | None = None


@dataclass
class FakeFetcher:
    """Gives `file` for every URL, or `error`."""

    file: bytes = b"5"
    error: Exception | None = None
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    async def fetch(self, url: str, param: str, max_bytes: int) -> bytes:
        self.asked.append((url, param, max_bytes))
        if self.error:
            raise self.error
        return self.file


def audio(seconds: float | str, format: str = "wav") -> dict[str, Any]:
    data = b64encode(str(seconds).encode()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": format}}


def url(url: str = URL) -> dict[str, Any]:
    return {"type": "audio_url", "audio_url": {"url": url}}


def data_url(seconds: float) -> dict[str, Any]:
    return url(f"data:audio/ogg;base64,{b64encode(str(seconds).encode()).decode()}")


def text(text: str = "hi") -> dict[str, Any]:
    return {"type": "text", "text": text}


def request(*contents: Any, role: str = "user") -> ChatRequest:
    messages = [{"role": role, "content": content} for content in contents]
    return ChatRequest.model_validate({"model": "m", "messages": messages})


def conversation_reader(
    reader: Reader | None = None,
    fetcher: Any = None,
    info: ChatModelInfo = HEARS,
    max_bytes: int = 1000,
    model: ChatModelConfig = MODEL,
    count: Callable[[float], None] = lambda seconds: None,
) -> ConversationReader:
    ears = OwnEars(reader or Reader(), model, info) if info.hears_audio else None
    return ConversationReader(ears, fetcher or FakeFetcher(), model, max_bytes, count)


async def mistake(request: ChatRequest, reader: ConversationReader | None = None) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await (reader or conversation_reader()).read(request)
    assert caught.value.param != "file"
    return caught.value


def durations_s(message: Message) -> list[float]:
    return [len(part.pcm) / SAMPLE_RATE_HZ for part in message.parts if isinstance(part, AudioPart)]


# What a model gets


async def test_cht_03_texts() -> None:
    counted: list[float] = []
    reader = conversation_reader(count=counted.append)
    messages = await reader.read(request("one", [text("two"), text(""), text("three")], []))
    assert messages == [
        Message("user", (TextPart("one"),)),
        Message("user", (TextPart("two"), TextPart(""), TextPart("three"))),
        Message("user", ()),
    ]
    assert counted == []


@pytest.mark.parametrize(
    ("role", "expected"),
    [("developer", "system"), ("system", "system"), ("user", "user"), ("assistant", "assistant")],
)
async def test_cht_02_roles(role: str, expected: str) -> None:
    for content in ("hi", [text()]):
        (message,) = await conversation_reader().read(request(content, role=role))
        assert message == Message(expected, (TextPart("hi"),))  # type: ignore[arg-type]


async def test_an_assistant_may_have_said_nothing() -> None:
    wire = {"model": "m", "messages": [{"role": "assistant"}, {"role": "assistant", "content": None}]}
    messages = await conversation_reader().read(ChatRequest.model_validate(wire))
    assert messages == [Message("assistant", (TextPart(""),))] * 2


@pytest.mark.parametrize("one", [audio(5), url(), data_url(5), url("  DATA:;base64,NQ=="), audio(5, "m4a")])
async def test_cht_04_to_cht_07_audio_from_anywhere(one: dict[str, Any]) -> None:
    counted: list[float] = []
    (message,) = await conversation_reader(count=counted.append).read(request([text("a"), one, text("b")]))
    first, heard, last = message.parts
    assert (first, last) == (TextPart("a"), TextPart("b"))
    assert isinstance(heard, AudioPart)
    assert (heard.pcm == 5).all()
    assert durations_s(message) == [5.0]
    assert counted == [5.0]


async def test_audios_stay_in_their_order_and_their_messages() -> None:
    counted: list[float] = []
    reader = conversation_reader(fetcher=FakeFetcher(b"2"), count=counted.append)
    first, second = await reader.read(request([audio(1), url()], [text(), data_url(3)]))
    assert (durations_s(first), durations_s(second)) == ([1.0, 2.0], [3.0])
    assert counted == [1.0, 2.0, 3.0]


async def test_a_url_is_fetched_as_it_stands() -> None:
    fetcher = FakeFetcher()
    await conversation_reader(fetcher=fetcher, max_bytes=77).read(request("hi", [text(), url()]))
    assert fetcher.asked == [(URL, "messages[1].content[1].audio_url.url", 77)]


# Which part is to blame


async def test_a_model_that_does_not_hear() -> None:
    info = ChatModelInfo(hears_audio=False, max_audio_s=None, max_context_tokens=100)
    fetcher, reader = FakeFetcher(), Reader()
    error = await mistake(request("hi", [text(), url()]), conversation_reader(reader, fetcher, info))
    assert (error.param, error.code) == ("messages[1].content[1].type", "unsupported_content_type")
    assert "'m'" in error.message
    assert not fetcher.asked + reader.max_durations_s  # nobody is troubled for it
    assert await conversation_reader(info=info).read(request("hi", [text()]))


@pytest.mark.parametrize(
    ("part", "where"),
    [
        (audio(5), "messages[1].content[2].input_audio.data"),
        (data_url(5), "messages[1].content[2].audio_url.url"),
        (url(), "messages[1].content[2].audio_url.url"),
    ],
)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UndecodableAudio("It is no audio."), "invalid_value"),
        (AudioTooShort("It is too short."), "audio_too_short"),
        (AudioTooLong("It is too long."), "invalid_value"),
        (InvalidRequest("It is bad.", "file", "bad_code"), "bad_code"),
    ],
    ids=repr,
)
async def test_what_is_wrong_with_audio_keeps_its_kind_and_names_its_part(
    part: dict[str, Any], where: str, error: InvalidRequest, code: str
) -> None:
    caught = await mistake(request("hi", [text(), text(), part]), conversation_reader(Reader(error=error)))
    assert type(caught) is type(error)
    assert (caught.param, caught.code) == (where, code)
    assert error.message in caught.message


async def test_cht_06_what_is_fetched_and_no_audio_names_its_host() -> None:
    reader = conversation_reader(Reader(error=UndecodableAudio("It is no audio.")))
    error = await mistake(request([url("https://Example.COM:8443/a.wav?key=secret")]), reader)
    assert "'example.com'" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("error", [Overloaded("busy", 3.0), ModelUnavailable("lost"), DeadlineExceeded("late")])
@pytest.mark.parametrize("culprit", ["reader", "fetcher"])
async def test_what_is_not_the_client_s_mistake_passes(error: Exception, culprit: str) -> None:
    reader = Reader(error=error if culprit == "reader" else None)
    fetcher = FakeFetcher(error=error if culprit == "fetcher" else None)
    with pytest.raises(type(error)) as caught:
        await conversation_reader(reader, fetcher).read(request([url()]))
    assert caught.value is error


async def test_what_the_fetcher_refuses_passes() -> None:
    error = InvalidRequest("It answers 404.", "messages[0].content[0].audio_url.url")
    assert await mistake(request([url()]), conversation_reader(fetcher=FakeFetcher(error=error))) is error


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "input_audio", "input_audio": {"data": "A"}}, "input_audio.data"),
        ({"type": "input_audio", "input_audio": {"data": ""}}, "input_audio.data"),
        ({"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,A"}}, "input_audio.data"),
        (url("data:audio/wav;base64,A"), "audio_url.url"),
        (url("data:audio/wav,RIFF"), "audio_url.url"),
        (url("data:"), "audio_url.url"),
        (url(""), "audio_url.url"),
        (url("file:///etc/passwd"), "audio_url.url"),
        (url("ftp://127.0.0.1/a.wav"), "audio_url.url"),
        (url("gopher:x"), "audio_url.url"),
        (url("//example.com/a.wav"), "audio_url.url"),
        (url("http://"), "audio_url.url"),
        (url("http://user:password@example.com/"), "audio_url.url"),
    ],
    ids=str,
)
async def test_cht_06_what_is_neither_data_nor_a_url_of_the_web(part: dict[str, Any], field: str) -> None:
    """Asked of the real fetcher, which connects to none of them."""
    fetcher = MediaFetcher(frozenset(), FetchLimits(max_bytes=1000))
    error = await mistake(request([text(), part]), conversation_reader(fetcher=fetcher))
    assert (error.param, error.code) == (f"messages[0].content[1].{field}", "invalid_value")
    assert len(error.message) < 200


# How much of it


async def test_bytes_are_counted_over_all_parts() -> None:
    fetcher = FakeFetcher(b"0000000001")
    reader = conversation_reader(fetcher=fetcher, max_bytes=30)
    await reader.read(request([audio("00000002")], [url(), data_url(3)]))
    assert [max_bytes for _, _, max_bytes in fetcher.asked] == [22]


@pytest.mark.parametrize(
    "contents",
    [
        ([audio("0" * 30 + "1")],),
        ([audio("0000000001"), audio("0000000001"), audio("00000000001")],),
        ([audio("0000000001")], [url()], [audio("00000000001")]),
        ([url(), audio("000000000000000000001")],),
    ],
)
async def test_more_bytes_than_a_request_may_have(contents: tuple[Any, ...]) -> None:
    reader = conversation_reader(fetcher=FakeFetcher(b"0000000001"), max_bytes=30)
    with pytest.raises(RequestTooLarge):
        await reader.read(request(*contents))


async def test_as_many_bytes_as_a_request_may_have() -> None:
    parts = [audio("0000000001"), url(), data_url(1.0)]
    assert await conversation_reader(fetcher=FakeFetcher(b"0" * 16 + b"1"), max_bytes=30).read(request(parts))


async def test_seconds_are_counted_over_all_parts() -> None:
    recordings, counted = Reader(), list[float]()
    reader = conversation_reader(recordings, FakeFetcher(b"30"), count=counted.append)
    await reader.read(request([audio(10), url()], [data_url(20)]))
    assert recordings.max_durations_s == [60.0, 50.0, 20.0]
    assert counted == [10.0, 30.0, 20.0]


async def test_nothing_is_read_when_no_second_is_left() -> None:
    recordings = Reader()
    error = await mistake(request([audio(60)], [text(), audio(1)]), conversation_reader(recordings))
    assert isinstance(error, AudioTooLong)
    assert error.param == "messages[1].content[1].input_audio.data"
    assert "60 s" in error.message
    assert len(recordings.max_durations_s) == 1


async def test_more_seconds_than_are_left() -> None:
    counted: list[float] = []
    error = await mistake(request([audio(50), audio(11)]), conversation_reader(count=counted.append))
    assert (error.param, error.code) == ("messages[0].content[1].input_audio.data", "invalid_value")
    assert counted == [50.0]


@pytest.mark.parametrize("duration_s", [30.0, 29.9])
async def test_as_much_as_a_model_hears_of_one_audio(duration_s: float) -> None:
    info = ChatModelInfo(True, 30.0, 100)
    (message,) = await conversation_reader(info=info).read(request([audio(duration_s), audio(duration_s)]))
    assert durations_s(message) == [duration_s, duration_s]


async def test_more_than_a_model_hears_of_one_audio() -> None:
    """Else it would answer about a part of it, and nobody would know."""
    reader = conversation_reader(info=ChatModelInfo(True, 30.0, 100))
    error = await mistake(request([audio(20), audio(30.1)]), reader)
    assert isinstance(error, AudioTooLong)
    assert error.param == "messages[0].content[1].input_audio.data"
    assert "30.1 s" in error.message
    assert "'m'" in error.message


# Several at once


@dataclass
class GatedEars:
    """Hears what an upload says once it is let; tells who was heard at the same time."""

    num_at_once: int = 2
    gates: dict[bytes, asyncio.Event] = field(default_factory=dict)
    errors: dict[bytes, Exception] = field(default_factory=dict)
    hearing: set[bytes] = field(default_factory=set)
    most_at_once: int = 0

    async def hear(self, upload: bytes) -> Heard:
        self.hearing.add(upload)
        self.most_at_once = max(self.most_at_once, len(self.hearing))
        try:
            await self.gates.get(upload, asyncio.Event()).wait()
            if upload in self.errors:
                raise self.errors[upload]
            return Heard(TextPart(f"heard {upload.decode()}"), float(upload), int(upload))
        finally:
            self.hearing.discard(upload)


def reader_with(ears: GatedEars, count: Callable[[float], None] = lambda seconds: None) -> ConversationReader:
    return ConversationReader(ears, FakeFetcher(), MODEL, 1000, count)  # type: ignore[arg-type]


async def test_cht_35_audios_are_heard_side_by_side_and_stay_where_they_were() -> None:
    ears = GatedEars(gates={data: asyncio.Event() for data in (b"1", b"2", b"3")})
    counted: list[float] = []
    reader = reader_with(ears, counted.append)
    reading = asyncio.create_task(reader.read(request([text("a"), audio(1), text("b"), audio(2)], "hi", [audio(3)])))
    await settle()
    assert ears.hearing == {b"1", b"2"}
    ears.gates[b"2"].set()
    await settle()
    assert ears.hearing == {b"1", b"3"}
    for gate in ears.gates.values():
        gate.set()
    first, second, third = await reading
    assert first.parts == (TextPart("a"), TextPart("heard 1"), TextPart("b"), TextPart("heard 2"))
    assert (second.parts, third.parts) == ((TextPart("hi"),), (TextPart("heard 3"),))
    assert (counted, reader.num_audio_tokens, ears.most_at_once) == ([2.0, 1.0, 3.0], 6, 2)


async def test_cht_35_one_that_cannot_be_heard_ends_the_others() -> None:
    ears = GatedEars(errors={b"2": UndecodableAudio("Not audio.")}, gates={b"2": asyncio.Event()})
    reading = asyncio.create_task(reader_with(ears).read(request([audio(1), audio(2), audio(3)])))
    await settle()
    ears.gates[b"2"].set()
    with pytest.raises(UndecodableAudio) as caught:
        await reading
    assert caught.value.param == "messages[0].content[1].input_audio.data"
    assert ears.hearing == set()


async def test_cht_35_nobody_is_heard_for_a_client_that_has_left() -> None:
    ears = GatedEars()
    reading = asyncio.create_task(reader_with(ears).read(request([audio(1), audio(2)])))
    await settle()
    assert ears.hearing
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ears.hearing == set()


async def test_an_audio_is_counted_when_it_was_heard_whatever_becomes_of_the_others() -> None:
    """Its client may leave, and another part may be none."""
    ears = GatedEars(gates={data: asyncio.Event() for data in (b"1", b"2")})
    counted: list[float] = []
    reading = asyncio.create_task(reader_with(ears, counted.append).read(request([audio(1), audio(2), audio(3)])))
    ears.gates[b"1"].set()
    await settle()
    assert counted == [1.0]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert counted == [1.0]


# What can be told without the model


def test_where_audio_is() -> None:
    found = audio_parts(request("hi", [text(), audio(1), text(), url()], [], [data_url(1)]))
    assert [where for where, _, _ in found] == [
        "messages[1].content[1]",
        "messages[1].content[3]",
        "messages[3].content[0]",
    ]


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
@pytest.mark.parametrize("part", [audio, url, data_url])
def test_cht_08_only_users_speak(role: str, part: Callable[[Any], dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_audio(request([text(), part("5")], role=role), MODEL)
    assert caught.value.param == "messages[0].content[1].type"
    assert f"'{role}'" in caught.value.message
    check_audio(request([text()], role=role), MODEL)


@pytest.mark.parametrize(("num_audios", "max_audios"), [(0, 0), (1, 1), (4, 4), (4, 5)])
def test_as_many_audios_as_a_model_may_have(num_audios: int, max_audios: int) -> None:
    check_audio(request(*[[text(), audio(1)]] * num_audios, "hi"), MODEL.model_copy(update={"max_audios": max_audios}))


@pytest.mark.parametrize(("num_audios", "max_audios"), [(1, 0), (2, 1), (5, 4)])
def test_cht_08_more_audios_than_a_model_may_have(num_audios: int, max_audios: int) -> None:
    contents = [[text(), audio(1)], [url()] * (num_audios - 1)]
    with pytest.raises(InvalidRequest, match=f"At most {max_audios} audios") as caught:
        check_audio(request(*contents), MODEL.model_copy(update={"max_audios": max_audios}))
    assert caught.value.param == "messages"
