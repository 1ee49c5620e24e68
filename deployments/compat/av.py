"""What PyAV does not promise, or does wrongly, each thing once."""

from collections.abc import Iterator

import av
from av.audio.codeccontext import AudioCodecContext

ORDER = (
    "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR DL DR WL WR SDL SDR LFE2 TSL TSR BFC BFL BFR SSL "
    "SSR TTL TTR"
).split()
"""FFmpeg's of channels; what stands in another one has a map of its own."""


def audio_decoders() -> Iterator[str]:
    """Names of those that this FFmpeg has."""
    for name in av.codecs_available:
        try:
            if av.Codec(name, "r").type == "audio":
                yield name
        except ValueError:  # only an encoder
            continue


def unmapped(context: AudioCodecContext) -> int:
    """Number of channels of a stream, whose order is forgotten where it is not FFmpeg's, as in AIFF and CAF of 7.1.

    Such an order has memory of its own, which PyAV copies without counting: `layout` and whoever it was asked of, a
    context or a frame, would both free it, and the process ends. So the one that was copied is the last.
    """
    layout = context.layout
    places = [ORDER.index(channel.name) if channel.name in ORDER else -1 for channel in layout.channels]
    is_mapped = " channels (" in layout.name and (places[0] < 0 or places != sorted(set(places)))
    if is_mapped:
        context.layout = f"{layout.nb_channels} channels"
    return int(layout.nb_channels)
