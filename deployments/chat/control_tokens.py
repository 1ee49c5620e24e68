"""Control tokens that users write, marked so that transformers reads them as the plain text they look like."""

import re
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from os.path import commonprefix

from deployments.compat.transformers import CONTROL_TOKEN_END, CONTROL_TOKEN_START

NOTHING = "(?!)"


class ControlTokens:
    """Marks what transformers' `mark_control_tokens` marks, in a time that does not hang on how many tokens there are.

    That one tries every token at every place where one could begin: with Mistral's thousand, which nearly all begin
    with `<`, half a megabyte of `<` would keep everybody else waiting for seconds.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._pattern = re.compile(_longest_of(tokens))

    def marked(self, text: str) -> str:
        """`text` with marks around its control tokens, and without those that it came with."""
        text = text.replace(CONTROL_TOKEN_START, "").replace(CONTROL_TOKEN_END, "")
        return self._pattern.sub(_mark, text)  # a function, for `re` looks templates up by the whole pattern's hash


def _mark(token: re.Match[str]) -> str:
    return f"{CONTROL_TOKEN_START}{token[0]}{CONTROL_TOKEN_END}"


def _longest_of(words: Iterable[str]) -> str:
    """A regular expression that has what several words begin with once: `a(?:b|c(?:d)?)` for ab, ac and acd."""
    alternatives = []
    for _, group in groupby(sorted(filter(None, words)), key=itemgetter(0)):
        alike = list(group)
        start = commonprefix(alike)  # noqa: RUF071 these are no paths
        ends = [word.removeprefix(start) for word in alike]
        rest = f"(?:{_longest_of(ends)})" if any(ends) else ""
        alternatives.append(re.escape(start) + rest + ("?" if rest and "" in ends else ""))
    return "|".join(alternatives) or NOTHING
