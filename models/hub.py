"""Single files of the Hugging Face hub, by its own client, which shows progress and survives a broken connection."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from ssl import SSLError
from typing import NoReturn

from models.catalogue import HubFile, ModelFile
from models.errors import SourceUnavailable

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

BLOCK_BYTES = 1 << 20

OF_THE_DISK = frozenset(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EFBIG EIO EROFS EACCES EPERM ENOENT EEXIST ENOTDIR EISDIR EMFILE ENFILE".split()
)
"""The network's errors may be `OSError`s with a number, too."""


def read_hub(file: ModelFile, directory: Path) -> Iterator[bytes]:
    """The bytes of a file, downloaded into `directory`.

    Raises:
        SourceUnavailable: it is not there, the hub cannot be reached, or the connection broke.
        OSError: of the disk.
    """
    from huggingface_hub import constants, hf_hub_download

    if file.hub is None:
        raise SourceUnavailable(f"The hub does not have {file.name}.")
    hub = file.hub
    if constants.HF_HUB_OFFLINE:
        raise SourceUnavailable("The hub is switched off by HF_HUB_OFFLINE.")
    try:
        path = hf_hub_download(hub.repository, hub.file, revision=hub.revision, cache_dir=directory)
    except Exception as error:  # the client's own, its HTTP library's, hf_xet's, and the disk's
        _explain(hub, error)
    with open(path, "rb") as downloaded:
        while block := downloaded.read(BLOCK_BYTES):
            yield block


def _explain(hub: HubFile, error: Exception) -> NoReturn:
    """Make one sentence of what the client raised; what the disk says stays as it is."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, OSError) and error.errno in OF_THE_DISK and not isinstance(error, SSLError):
        raise error
    said = (str(error).strip().splitlines() or ["no more is known"])[0].rstrip(".:")
    if "No space left on device" in str(error):  # hf_xet has no numbers
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    if isinstance(error, (HfHubHTTPError, LocalEntryNotFoundError)):
        raise SourceUnavailable(f"The hub cannot be reached or does not have {hub.repository}.") from None
    raise SourceUnavailable(
        f"The hub did not give all of {hub.repository}'s {hub.file} ({type(error).__name__}: {said})."
    ) from None
