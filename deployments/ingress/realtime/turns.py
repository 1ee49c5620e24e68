"""How a session's turns are transcribed: by its configuration when they begin."""

from deployments.ingress.catalogue import ServedModel
from deployments.ingress.realtime.options import INTERVAL_S, to_options, to_turn_vad
from deployments.ingress.realtime.schema import SessionConfig
from deployments.ingress.services import Services
from pipelines.diarization import SpeakerAttributor
from pipelines.live_transcription import LiveTranscriber
from pipelines.realtime import MAX_TURN_S
from pipelines.transcript_types import Transcript
from pipelines.transcription import ChunkTranscriber
from pipelines.turn_transcription import Acquaintances, ChunkedTurn, DiarizedTurn, TurnTranscriber
from pipelines.voices import Voices

MAX_DIARIZED_TURN_S = 300.0
"""All audio of such a turn is kept until it ends."""


class TurnFactory:
    """Remembers from turn to turn who was heard, and in which language."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._neighbour: str | None = None
        self._acquaintances: Acquaintances | None = None

    def new_turn(self, config: SessionConfig, model: ServedModel) -> TurnTranscriber:
        recognizer, options = self._services.recognizers[model.root], to_options(config, self._neighbour)
        vad = to_turn_vad(config)
        delay = config.audio.input.transcription.delay
        if delay is not None:
            return LiveTranscriber(recognizer, options, INTERVAL_S[delay], vad)
        transcriber = ChunkTranscriber(recognizer, self._services.limits.max_chunks_in_flight)
        if model.family != "diarize":
            return ChunkedTurn(transcriber, options, vad)
        diarizer, diarization = self._services.diarizer, self._services.diarization
        assert diarizer is not None, "the settings refuse the family 'diarize' without a diarizer"
        assert diarization is not None
        if self._acquaintances is None:
            self._acquaintances = Acquaintances(Voices({}, diarization.voices()))
        attributor = SpeakerAttributor(diarizer, diarization.max_window_s)
        return DiarizedTurn(transcriber, options, vad, attributor, self._acquaintances)

    def heard(self, transcript: Transcript) -> None:
        if transcript.text:
            self._neighbour = transcript.language


def max_turn_s(model: ServedModel) -> float:
    return MAX_DIARIZED_TURN_S if model.family == "diarize" else MAX_TURN_S
