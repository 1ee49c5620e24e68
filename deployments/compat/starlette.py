"""What Starlette does not promise to keep, each thing once, and what it breaks when it changes.

`tests/deployments/compat/test_starlette.py` tells when one of them does.
"""

import re

from starlette.formparsers import MultiPartParser

EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=", re.IGNORECASE)
PLAIN_NAME = re.compile(rb";\s*filename\s*=", re.IGNORECASE)


class FileFormParser(MultiPartParser):
    """Also takes a part for a file that has only the extended name of RFC 5987, `filename*=UTF-8''…`.

    Form data must not have it (RFC 7578, section 4.2), so that Starlette takes such a part for text; some clients send
    nothing else. The part that is parsed is private. When that changes, no form is read, or those clients are told that
    they sent no file.
    """

    def on_headers_finished(self) -> None:
        disposition = self._current_part.content_disposition or b""
        if EXTENDED_NAME.search(disposition) and not PLAIN_NAME.search(disposition):
            self._current_part.content_disposition = disposition + b'; filename="file"'
        super().on_headers_finished()
