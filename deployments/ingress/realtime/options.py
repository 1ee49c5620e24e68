"""What a session is configured to do, in the pipelines' words."""

from deployments.ingress.realtime.schema import SessionConfig, TurnDetectionConfig
from pipelines.audio_types import VadOptions
from pipelines.live_transcription import FINAL_HEAD_START_S, FINAL_PADDING_S
from pipelines.realtime_types import TurnDetection
from pipelines.transcript_types import DecodingOptions

INTERVAL_S = {"minimal": 0.3, "low": 0.5, "medium": 1.0, "high": 1.5, "xhigh": 2.0}
"""By delay: of new audio, before what is being said is decoded again."""

SILENCE_MS = {"high": 400, "medium": 800, "auto": 800, "low": 1_600}
"""By eagerness of `semantic_vad`: how long somebody who has finished is waited for. What was said is not looked at."""


def to_turn_detection(config: SessionConfig) -> TurnDetection | None:
    detection = config.audio.input.turn_detection
    if detection is None:
        return None
    idle_timeout_s = detection.idle_timeout_ms / 1_000 if detection.idle_timeout_ms else None
    return TurnDetection(_vad(detection), idle_timeout_s)


def to_turn_vad(config: SessionConfig) -> VadOptions:
    """What is speech inside a turn: as in an upload, but whoever began the turn is heard in it, with all that was put
    before it."""
    detection, upload = config.audio.input.turn_detection, VadOptions()
    if detection is None:
        return upload
    session = _vad(detection)
    return VadOptions(
        min(session.threshold, upload.threshold), max(session.prefix_padding_ms, upload.prefix_padding_ms)
    )


def to_options(config: SessionConfig, neighbour: str | None) -> DecodingOptions:
    """neighbour: the language of the turn before, for one whose own is not plain."""
    asked = config.audio.input.transcription
    return DecodingOptions(
        language=asked.language,
        languages=tuple(asked.languages or ()),
        neighbour=neighbour,
        prompt=asked.prompt or "",
        keywords=tuple(asked.keywords or ()),
        timestamp_tokens=False,
        padding_s=FINAL_PADDING_S,
        head_start_s=FINAL_HEAD_START_S,
    )


def _vad(detection: TurnDetectionConfig) -> VadOptions:
    if detection.type == "semantic_vad":
        return VadOptions(silence_duration_ms=SILENCE_MS[detection.eagerness])
    return VadOptions(detection.threshold, detection.prefix_padding_ms, detection.silence_duration_ms)
