"""A clock that a test moves."""


class Clock:
    """Its time in seconds. It does not begin at zero, as no monotonic clock does."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
