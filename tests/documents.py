"""The documents as tests read them: their code, their tables, their headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@dataclass(frozen=True)
class Block:
    """Fenced code. file: the name behind its language, of a block that is a whole file."""

    page: Path
    language: str
    file: str
    code: str


def blocks(page: Path) -> list[Block]:
    fenced = re.findall(r"^```(\w*) ?(\S*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(page, *found) for found in fenced]


def rows(page: Path, heading: str = "") -> Iterator[list[str]]:
    """The cells of all tables below a heading, up to the next one of its rank; without one, of the page."""
    text = section(page.read_text(), heading) if heading else page.read_text()
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, heading: str) -> str:
    rank = heading.split()[0]
    return re.split(rf"^#{{1,{len(rank)}}} ", text.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write_files(page: Path, directory: Path) -> None:
    for block in blocks(page):
        if block.file:
            (directory / block.file).write_text(block.code)
