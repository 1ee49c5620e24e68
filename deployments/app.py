"""The whole graph on one page.

    client ──HTTP──▶ ingress ──upload──▶ audio        decode + VAD: pages of chunks
                        │
                        ├──────chunks──▶ asr-<name>   one per configured Whisper model
                        │
                        ├─────windows──▶ diarization  who speaks when
                        │
                        └────messages──▶ chat-<name>  one per configured language model

`serve run configs/embedded.yaml` calls `build` with the configuration's `args`; the `deployments:` section
beside them says how many replicas of each run, on which share of a CPU or GPU.
"""

import time

from ray.serve import Application

from deployments.asr.deployment import Asr
from deployments.audio.deployment import Audio
from deployments.chat.deployment import Chat
from deployments.diarization.deployment import DiarizationDeployment
from deployments.ingress.deployment import Ingress
from deployments.settings import Settings


def build(settings: Settings) -> Application:
    """Build the application from a configuration's `args`, which Serve validates as `Settings`."""
    audio = Audio.options(name="audio").bind(settings.limits.decoding())
    asr = {
        model.id: Asr.options(name=model.deployment_name).bind(model.engine, model.source, model.device, model.dtype)
        for model in settings.speech_models
    }
    chat = {
        model.id: Chat.options(name=model.deployment_name).bind(
            model.engine, model.source, model.device, model.dtype, model.max_context_tokens, model.hears
        )
        for model in settings.chat_models
    }
    wanted = settings.diarization
    diarization = wanted and DiarizationDeployment.bind(wanted.engine, wanted.source, wanted.device, wanted.batch_size)
    return Ingress.options(name="ingress").bind(settings, int(time.time()), audio, asr, chat, diarization)
