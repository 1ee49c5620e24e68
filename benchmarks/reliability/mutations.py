"""Does any damaged upload or form do more than be refused?

    python -m deployments configs/embedded.yaml &
    python -m benchmarks.reliability.mutations --inputs 10000

A short recording in fourteen containers and codecs is damaged where their structure is: sizes and counts behind the
names of their parts, headers, cut and spliced packets; and the form around it. Every answer must be a 2xx, or a 4xx in
OpenAI's envelope; no replica may be lost; memory must stay. What was answered otherwise is kept in --keep. The server
runs on this machine, and only loopback is asked. The recording holds no speech but for every twentieth, so that most
inputs cost no model.
"""

import argparse
import asyncio
import io
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import soundfile
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from benchmarks.reliability.local_graph import Verdict, memory_bytes, replicas

KINDS = [
    ("webm", "libopus"),
    ("matroska", "pcm_s16le"),
    ("matroska", "flac"),
    ("mp4", "aac"),
    ("mov", "pcm_s16le"),
    ("ipod", "alac"),
    ("mp3", "libmp3lame"),
    ("ogg", "libopus"),
    ("ogg", "flac"),
    ("flac", "flac"),
    ("wav", "pcm_s16le"),
    ("aiff", "pcm_s16be"),
    ("mpegts", "mp2"),
    ("flv", "aac"),
]
NAMES = [
    *b"RIFF WAVE data LIST FORM AIFF COMM SSND fLaC OggS OpusHead ftyp moov mvhd trak tkhd edts elst mdia mdhd".split(),
    *b"minf stbl stsd stts stsc stsz stco co64 ctts mdat esds alac udta FLV ID3 Xing Info G@".split(),
    *(b"fmt ", b"\x1aE\xdf\xa3", b"\x15I\xa9f", b"\x16T\xaek", b"\x1fC\xb6u", b"\xa3", b"\xae", b"\xe1", b"\xff\xfb"),
]
"""Of the parts that those containers are made of."""

EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BOUNDARY = b"a-boundary"
FIELDS = (b"language", b"temperature", b"chunking_strategy", b"include[]", b"url", b"prompt", b"\xff", b"")


def encoded(samples: np.ndarray, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=48_000)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        context = stream.codec_context
        context.open()
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, 3)[None], format="flt", layout="mono")
        frame.rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        resampler = AudioResampler(context.format, "mono", 48_000, frame_size=context.frame_size or 1_024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return file.getvalue()


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        chance.choice((number, number, number, header, cut, splice, flip))(changed, chance)
    return bytes(changed)


def number(data: bytearray, chance: random.Random) -> None:
    """One of those beside a part's name."""
    name = chance.choice([name for name in NAMES if name in data] or [bytes(data[:1])])
    places = [place for place in range(len(data)) if data.startswith(name, place)][:50]
    width, order = chance.choice((1, 2, 4, 8)), chance.choice(("big", "little"))
    place = max(
        chance.choice(places) + chance.choice((-8, -4, len(name), len(name) + 4, len(name) + chance.randint(0, 40))), 0
    )
    value = chance.choice((*EXTREMES, chance.getrandbits(32))) % (1 << 8 * width)
    data[place : place + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


def header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(min(len(data), 512))] = chance.getrandbits(8)


def cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 16, 256, len(data)))]
    data += b"\0" * (not data)


def splice(data: bytearray, chance: random.Random) -> None:
    """A part of it again, elsewhere."""
    start, place = chance.randrange(len(data)), chance.randrange(len(data))
    data[place:place] = data[start : start + chance.choice((8, 64, 1_024))]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 64)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def form(file: bytes, chance: random.Random) -> bytes:
    parts = [b'name="file"; filename="a"\r\n\r\n' + file, b'name="model"\r\n\r\nwhisper-1']
    if chance.random() < 0.3:
        parts.append(b'name="stream"\r\n\r\ntrue')
    if chance.random() < 0.2:
        name = chance.choice(FIELDS)
        parts.append(b'name="' + name + b'"\r\n\r\n' + chance.randbytes(chance.choice((0, 1, 20, 5_000))))
    chance.shuffle(parts)
    head = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "
    body = b"".join(head + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"
    if chance.random() < 0.1:
        changed = bytearray(body)
        chance.choice((header, cut, flip))(changed, chance)
        return bytes(changed)
    return body


def is_right(response: httpx.Response) -> bool:
    if response.is_success:
        return True
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return 400 <= response.status_code < 500 and error.keys() == {"message", "type", "param", "code"}


async def ask(url: str, bodies: list[bytes], num_clients: int, keep: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    numbered = iter(enumerate(bodies))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}

    async def client_loop(client: httpx.AsyncClient) -> None:
        for place, body in numbered:
            try:
                response = await client.post(f"{url}/v1/audio/transcriptions", content=body, headers=headers)
                name = str(response.status_code) if is_right(response) else f"wrong {response.status_code}"
            except httpx.HTTPError as error:
                name = f"wrong {type(error).__name__}"
            found[name] += 1
            if name.startswith("wrong"):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{place}.form").write_bytes(body)

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(client_loop(client) for _ in range(num_clients)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speech", type=Path, default=Path("tests/data/en-00.flac"), help="at 16 kHz")
    parser.add_argument("--keep", type=Path, default=Path("mutations-kept"))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    speech = soundfile.read(options.speech, dtype="float32")[0]
    tone = 0.1 * np.sin(np.arange(8_000) / 5).astype(np.float32)
    seeds = [[encoded(samples, *kind) for kind in KINDS] for samples in (tone, speech)]
    bodies = [form(damaged(chance.choice(seeds[place % 20 == 0]), chance), chance) for place in range(options.inputs)]
    # Among others, of batches as large as they come: what is loaded and allocated once is no leak.
    warm_up = [form(seed, random.Random(1)) for seed in seeds[0] + 5 * seeds[1]]
    asyncio.run(ask(options.url, warm_up, 3 * options.clients, options.keep))
    pids, before = replicas(), memory_bytes()
    found = asyncio.run(ask(options.url, bodies, options.clients, options.keep))
    grown = memory_bytes() - before
    verdict = Verdict()
    num_wrong = sum(count for name, count in found.items() if name.startswith("wrong"))
    answers = ", ".join(f"{name}: {count}" for name, count in sorted(found.items()))
    verdict.add(f"{options.inputs} damaged inputs", answers, "2xx, or 4xx in the envelope", not num_wrong)
    num_lost = sum(len(old - replicas().get(name, set())) for name, old in pids.items())
    verdict.add("replicas lost", str(num_lost), "0", not num_lost)
    verdict.add("memory of the graph afterwards", f"{grown / 1e6:+.0f} MB", "at most +200 MB", grown <= 200e6)
    verdict.finish()


if __name__ == "__main__":
    main()
