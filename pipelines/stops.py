"""Stop texts: an answer ends before the first of them that is complete, however it is cut into pieces."""

from collections.abc import Sequence


class StopTexts:
    """Lets text through as soon as it can no longer be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.is_found = False

    def push(self, text: str) -> str:
        """Take new text and return what may be shown now; nothing more once a stop text was found."""
        if self.is_found:
            return ""
        text = self._held + text
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        self.is_found = bool(found)
        end = min(found)[1] if found else len(text) - self._num_doubtful(text)
        self._held = "" if self.is_found else text[end:]
        return text[:end]

    def finish(self) -> str:
        """What was held back and turned out to be no stop text."""
        held, self._held = self._held, ""
        return held

    def _num_doubtful(self, text: str) -> int:
        """Characters at the end of `text` that a stop text might begin with."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for length in range(min(longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0
