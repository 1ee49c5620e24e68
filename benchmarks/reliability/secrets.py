"""Does a key stand anywhere that it should not?

    AURICLE_API_KEYS=sk-canary-0123456789 python -m deployments configs/embedded.yaml &
    python -m benchmarks.reliability.secrets --key sk-canary-0123456789

Sends good and bad requests with the key, with wrong keys and with client secrets, over HTTP and the realtime socket.
Then looks for all of them in every answer, in `/metrics`, in what Ray and Serve wrote on this machine (logs,
configuration, names in the object store) since it began, and in the command lines of their processes.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from benchmarks.reliability.local_graph import Verdict

WRONG_KEY = "sk-wrong-canary-9876543210"
RAY_DIRECTORY = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "session_latest"
CHUNK_BYTES = 1 << 20


async def answers(server: str, file: bytes, key: str) -> tuple[list[str], list[str]]:
    """All answers with their headers, and the client secrets that were made."""
    said = []
    secrets = []
    for used in (key, WRONG_KEY):
        headers = {"Authorization": f"Bearer {used}"}
        async with httpx.AsyncClient(base_url=server, headers=headers, timeout=120) as client:
            for response in [
                await client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "whisper-1"}),
                await client.post("/v1/audio/transcriptions", files={"file": b"no audio"}, data={"model": "whisper-1"}),
                await client.post("/v1/chat/completions", content=b"{"),
                await client.get("/v1/models"),
                await client.get("/v1/nothing", params={"api_key": "nobody"}),
            ]:
                said.append(f"{response.headers} {response.text}")
            made = await client.post("/v1/realtime/client_secrets", json={"session": {"type": "transcription"}})
            if made.status_code == 200:
                secrets.append(str(made.json()["value"]))
            else:
                said.append(made.text)
    for used in (key, WRONG_KEY, *secrets):
        said += [await socket_says(server, {"Authorization": f"Bearer {used}"})]
        said += [await socket_says(server, {}, ["realtime", f"openai-insecure-api-key.{used}"])]
    return said, secrets


async def socket_says(server: str, headers: dict[str, str], protocols: list[str] | None = None) -> str:
    url = f"{server.replace('http', 'ws')}/v1/realtime?intent=transcription"
    try:
        async with connect(url, additional_headers=headers, subprotocols=protocols) as socket:  # type: ignore[arg-type]
            await socket.send(json.dumps({"type": "nothing"}))
            return f"{await socket.recv()!r} {await socket.recv()!r} {socket.subprotocol}"
    except InvalidStatus as refused:
        return f"{refused.response.headers} {refused.response.body!r}"
    except WebSocketException as error:
        return str(error)


def written() -> Iterator[tuple[str, bytes]]:
    """Name and content of everything that Ray wrote, a piece at a time."""
    for path in (path for path in RAY_DIRECTORY.resolve().rglob("*") if path.is_file()):
        with path.open("rb") as file:
            yield str(path), str(path).encode()
            while piece := file.read(CHUNK_BYTES):
                yield str(path), piece
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "ray" in command and "reliability" not in command:
            yield f"process {process.pid}", command.encode()


def places(secrets: list[str]) -> set[str]:
    """Where one of them is."""
    return {name for name, text in written() if any(secret.encode() in text for secret in secrets)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--key", required=True, help="one that the server knows")
    parser.add_argument("--file", type=Path, default=Path("tests/data/jfk.flac"))
    arguments = parser.parse_args()
    said, made = asyncio.run(answers(arguments.server, arguments.file.read_bytes(), arguments.key))
    said.append(httpx.get(f"{arguments.server}/metrics", timeout=30).text)
    secrets = [arguments.key, WRONG_KEY, *made]
    found = [text for text in said if any(secret in text for secret in secrets)]
    where = sorted(places(secrets))
    for line in (*found, *where):
        print(line[:300])
    verdict = Verdict()
    verdict.add("client secrets made", str(len(made)), "1", len(made) == 1)
    verdict.add(f"answers with a secret, of {len(said)}", str(len(found)), "0", not found)
    verdict.add("files and processes with a secret", str(len(where)), "0", not where)
    verdict.finish()


if __name__ == "__main__":
    main()
