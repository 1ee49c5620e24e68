"""Single files of the Hugging Face hub, by its own client, which shows progress and resumes."""

import os
from collections.abc import Iterator
from pathlib import Path

from models.catalogue import ModelFile
from models.errors import SourceUnavailable

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

BLOCK_BYTES = 1 << 20


def read_hub(file: ModelFile, directory: Path) -> Iterator[bytes]:
    """The bytes of a file, downloaded into `directory`.

    Raises:
        SourceUnavailable: it is not there, or the hub cannot be reached.
        OSError
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if file.hub is None:
        raise SourceUnavailable(f"The hub does not have {file.name}.")
    hub = file.hub
    if constants.HF_HUB_OFFLINE:
        raise SourceUnavailable("The hub is switched off by HF_HUB_OFFLINE.")
    try:
        path = hf_hub_download(hub.repository, hub.file, revision=hub.revision, cache_dir=directory / "hub")
    except (HfHubHTTPError, LocalEntryNotFoundError):
        raise SourceUnavailable(f"The hub cannot be reached or does not have {hub.repository}.") from None
    with open(path, "rb") as downloaded:
        while block := downloaded.read(BLOCK_BYTES):
            yield block
