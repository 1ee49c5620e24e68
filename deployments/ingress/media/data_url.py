"""Files that travel inside a field: as base64, or as `data:audio/wav;base64,…` (RFC 2397)."""

from base64 import b64decode
from urllib.parse import unquote

from pipelines.errors import InvalidRequest

WHITESPACE = b" \t\r\n"
QUOTED = ("%2B", "%2b", "%2F", "%2f", "%3D", "%3d", "%0A", "%0a", "%0D", "%0d", "%20", "%09")
"""All that base64 holds and a URL may not; urllib's own `unquote` would make gigabytes of a hostile body."""


def parse_data_url(url: str, param: str) -> bytes:
    """The bytes of a base64 data URL; what type it claims to be is only a hint and not looked at.

    Raises:
        InvalidRequest: naming `param`.
    """
    head, comma, encoded = url.strip().partition(",")
    head = head.lower()
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise InvalidRequest(f"{param} must hold data URLs such as 'data:audio/wav;base64,…'.", param)
    for quoted in QUOTED:
        encoded = encoded.replace(quoted, unquote(quoted))
    return decode_base64(encoded, param)


def decode_base64_or_url(data: str, param: str) -> bytes:
    """Base64, or a data URL that holds it, as browsers' file readers give.

    Raises:
        InvalidRequest: naming `param`.
    """
    is_url = data[:64].lstrip().lower().startswith("data:")
    return parse_data_url(data, param) if is_url else decode_base64(data, param)


def decode_base64(encoded: str, param: str) -> bytes:
    """
    Raises:
        InvalidRequest: naming `param`.
    """
    try:
        data = b64decode(encoded.encode("ascii").translate(None, WHITESPACE), validate=True)
    except ValueError:  # also what is not ASCII
        raise InvalidRequest(f"{param} holds base64 that is not valid.", param) from None
    if not data:
        raise InvalidRequest(f"{param} holds no data.", param)
    return data
