"""What `deployments/compat/starlette.py` takes for granted, asked of Starlette itself."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from starlette.datastructures import Headers, UploadFile

from deployments.compat.starlette import FileFormParser
from tests.support.contracts import contract

kept = partial(contract, "starlette", "deployments/compat/starlette.py")


@pytest.mark.parametrize("name", ['filename="a"', "filename*=UTF-8''a", "x=1; FILENAME*=utf-8'en'a"])
async def test_a_part_with_a_file_s_name_is_a_file(name: str) -> None:
    with kept("MultiPartParser's _current_part"):
        head = f'--b\r\nContent-Disposition: form-data; name="file"; {name}\r\n\r\n'
        form = await FileFormParser(Headers({"content-type": "multipart/form-data; boundary=b"}), _body(head)).parse()
        assert isinstance(form["file"], UploadFile)
        assert await form["file"].read() == b"RIFF"


async def _body(head: str) -> AsyncIterator[bytes]:
    yield head.encode() + b"RIFF\r\n--b--\r\n"
