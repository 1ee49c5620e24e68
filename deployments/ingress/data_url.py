"""Files that travel inside a field: `data:audio/wav;base64,…` (RFC 2397)."""

import re
from base64 import b64decode
from binascii import Error as Base64Error

from pipelines.errors import InvalidRequest

DATA_URL = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(?:;[^,;]*)*?);base64,(?P<data>.*)", re.I | re.S)
WHITESPACE = re.compile(r"\s+")


def parse_data_url(url: str, param: str) -> bytes:
    """The bytes of a base64 data URL; what type it claims to be is only a hint and not looked at.

    Raises:
        InvalidRequest: naming `param`.
    """
    match = DATA_URL.fullmatch(url.strip())
    if match is None:
        raise InvalidRequest(f"{param} must hold data URLs such as 'data:audio/wav;base64,…'.", param)
    try:
        data = b64decode(WHITESPACE.sub("", match["data"]), validate=True)
    except (Base64Error, ValueError):
        raise InvalidRequest(f"{param} holds a data URL whose base64 is not valid.", param) from None
    if not data:
        raise InvalidRequest(f"{param} holds a data URL without data.", param)
    return data
