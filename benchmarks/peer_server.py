"""A server of faster-whisper that answers one request after the other, to race against. Needs the extra benchmark.

    python -m benchmarks.peer_server --threads 2 --port 8001
    python -m benchmarks.serve_load --beside http://127.0.0.1:8001 --clients 1 16 --files …

It does what servers around faster-whisper do: `WhisperModel.transcribe` in a thread, one at a time, its segments as
events of OpenAI's streams. Greedy, so that both engines search alike, and with its own voice activity detection.
"""

import argparse
import io
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.responses import StreamingResponse
from faster_whisper import WhisperModel

from benchmarks.peers import complete
from models.sources import resolve


def events(model: WhisperModel, one_at_a_time: threading.Lock, audio: bytes) -> Iterator[str]:
    with one_at_a_time:
        segments, _ = model.transcribe(io.BytesIO(audio), beam_size=1, vad_filter=True)
        for segment in segments:
            yield f"data: {json.dumps({'type': 'transcript.text.delta', 'delta': segment.text})}\n\n"
    yield 'data: {"type": "transcript.text.done"}\n\n'


def make_app(model: WhisperModel) -> FastAPI:
    app, one_at_a_time = FastAPI(), threading.Lock()

    @app.post("/v1/audio/transcriptions")
    def transcribe(file: Annotated[UploadFile, "any audio"]) -> StreamingResponse:
        return StreamingResponse(events(model, one_at_a_time, file.file.read()), media_type="text/event-stream")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="embedded:whisper-base", help="a CTranslate2 directory")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        complete(Path(resolve(options.source)), Path(directory))
        model = WhisperModel(directory, device="cpu", compute_type=options.compute_type, cpu_threads=options.threads)
    uvicorn.run(make_app(model), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
