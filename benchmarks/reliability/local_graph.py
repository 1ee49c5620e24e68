"""The processes of a graph that runs on this machine, from outside."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

REPLICA = re.compile(r"ray::ServeReplica:[^:]+:(?P<deployment>[\w.-]+)")
OTHERS = re.compile(r"ray::|raylet|gcs_server|ray/dashboard|ray\.serve\.scripts")


def replicas(below: int | None = None) -> dict[str, set[int]]:
    """Process ids by deployment. `below`: only of a graph that this process has started."""
    found: dict[str, set[int]] = {}
    for process in _processes(below):
        if match := REPLICA.match(_title(process)):
            found.setdefault(match["deployment"], set()).add(process.pid)
    return found


def memory_bytes(below: int | None = None) -> int:
    """Of all of Ray's processes, pages that several share counted once (proportional set sizes)."""
    total = 0
    for process in _processes(below):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _processes(below: int | None) -> Iterator[psutil.Process]:
    for process in psutil.Process(below).children(recursive=True) if below else psutil.process_iter():
        if OTHERS.search(_title(process)):
            yield process


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


@dataclass
class Verdict:
    """Rows of one table, and whether every bar was reached."""

    is_good: bool = True
    rows: list[str] = field(default_factory=lambda: ["| measure | found | bar | |", "|---|---|---|---|"])

    def add(self, measure: str, found: str, bar: str, is_good: bool) -> None:
        self.is_good &= is_good
        self.rows.append(f"| {measure} | {found} | {bar} | {'ok' if is_good else '**missed**'} |")

    def finish(self) -> None:
        """Print the table; the process fails where a bar was missed."""
        print("\n".join(self.rows))
        raise SystemExit(0 if self.is_good else 1)
