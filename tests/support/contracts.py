"""What a library does not promise and `deployments/compat/` takes for granted."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contract(library: str, file: str, what: str) -> Iterator[None]:
    """Say of whatever goes wrong inside that the library is another than the one that `file` was written for."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{library}: {what} has moved; {file} says what it is for") from error
