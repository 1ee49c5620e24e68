"""Known speakers of a request: names, and what each of them sounds like (DIA-03, DIA-04)."""

import unicodedata
from collections.abc import Mapping

from deployments.ingress.http.together import together
from deployments.ingress.media.data_url import parse_data_url
from deployments.ingress.transcription.schema import TranscriptionRequest
from pipelines.errors import AudioTooLong, AudioTooShort, InvalidRequest, UndecodableAudio
from pipelines.ports import AudioReader
from pipelines.speaker_types import KnownSpeaker

NAMES, REFERENCES = "known_speaker_names", "known_speaker_references"
MAX_KNOWN_SPEAKERS = 4
MAX_NAME_LENGTH = 200
MIN_REFERENCE_S, MAX_REFERENCE_S = 2.0, 10.0
TOLERANCE_S = 0.05


def known_speaker_clips(request: TranscriptionRequest) -> dict[str, bytes]:
    """The file of each name: all that can be told without reading audio.

    Raises:
        InvalidRequest: naming the field that is wrong.
    """
    check_known_speakers(request)
    names = [name.strip() for name in request.known_speaker_names]
    clips = [parse_data_url(reference, REFERENCES) for reference in request.known_speaker_references]
    return dict(zip(names, clips, strict=True))


async def read_known_speakers(clips: Mapping[str, bytes], reader: AudioReader) -> list[KnownSpeaker]:
    """
    Raises:
        InvalidRequest: naming the field that is wrong.
    """
    return await together(*[_read(name, clip, reader) for name, clip in clips.items()])


def check_known_speakers(request: TranscriptionRequest) -> None:
    """What can be told without reading audio.

    Raises:
        InvalidRequest
    """
    names, references = [name.strip() for name in request.known_speaker_names], request.known_speaker_references
    for param, values in ((NAMES, names), (REFERENCES, references)):
        if len(values) > MAX_KNOWN_SPEAKERS:
            raise InvalidRequest(f"At most {MAX_KNOWN_SPEAKERS} known speakers are supported.", param)
    if len(names) != len(references):
        raise InvalidRequest(
            f"{NAMES} and {REFERENCES} must have the same length, but there are {len(names)} and {len(references)}.",
            NAMES if len(names) < len(references) else REFERENCES,
        )
    if not all(names):
        raise InvalidRequest("The name of a known speaker must not be empty.", NAMES)
    if any(unicodedata.category(character) == "Cc" for name in names for character in name):
        raise InvalidRequest("The name of a known speaker must not hold control characters.", NAMES)
    if any(len(name) > MAX_NAME_LENGTH for name in names):
        raise InvalidRequest(f"The name of a known speaker may have at most {MAX_NAME_LENGTH} characters.", NAMES)
    if len(set(names)) < len(names):
        raise InvalidRequest("The names of known speakers must differ from each other.", NAMES)


async def _read(name: str, clip: bytes, reader: AudioReader) -> KnownSpeaker:
    try:
        read = await reader.read_clip(clip, MAX_REFERENCE_S + TOLERANCE_S)
    except (AudioTooShort, AudioTooLong):
        raise _wrong_length(name) from None
    except UndecodableAudio as error:
        raise InvalidRequest(f"The reference of '{name}' cannot be used: {error.message}", REFERENCES) from None
    if read.info.duration_s < MIN_REFERENCE_S - TOLERANCE_S:
        raise _wrong_length(name)
    return KnownSpeaker(name, read.speech)


def _wrong_length(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"The reference of '{name}' must be between {MIN_REFERENCE_S:.0f} and {MAX_REFERENCE_S:.0f} s long.", REFERENCES
    )
