"""What scripted engines write down for the tests, and how the tests let go of those that were told to wait."""

import json
import time
from pathlib import Path
from typing import Any


class Records:
    """Lines of JSON in a file that engines in other processes add to; `directory` travels as an engine's `source`."""

    def __init__(self, directory: Path | str) -> None:
        self._lines = Path(directory) / "records.jsonl"
        self._released = Path(directory) / "released"

    def write(self, who: str, what: str, **details: Any) -> None:
        record = {"who": who, "what": what, "at_s": time.monotonic(), **details}
        with self._lines.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def read(self, who: str, what: str) -> list[dict[str, Any]]:
        lines = self._lines.read_text().splitlines() if self._lines.exists() else []
        return [record for line in lines if (record := json.loads(line))["who"] == who and record["what"] == what]

    def clear(self) -> None:
        self._lines.unlink(missing_ok=True)
        self._released.unlink(missing_ok=True)

    def release(self) -> None:
        """Let everybody go on who waits for it, and whoever comes."""
        self._released.touch()

    @property
    def is_released(self) -> bool:
        return self._released.exists()
