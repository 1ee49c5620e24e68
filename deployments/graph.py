"""The whole graph on one page.

    client ──HTTP──▶ ingress ──upload──▶ audio        decode + VAD: pages of chunks
                        │
                        ├──────chunks──▶ asr-<name>   one per configured Whisper model
                        │
                        ├───stretches──▶ diarization  who speaks when
                        │
                        └────messages──▶ chat-<name>  one per configured language model

`deployments.app` binds it, and `deployments.config_file` checks the `deployments:` of a config file by it, which say
how many replicas of each run, on which share of a CPU or GPU.
"""

from dataclasses import dataclass
from typing import Any

from ray.serve import Deployment

from deployments.asr.deployment import AsrDeployment
from deployments.audio.deployment import AudioDeployment
from deployments.chat.deployment import ChatDeployment
from deployments.compat.serve import none_or_one_replica
from deployments.diarization.deployment import DiarizationDeployment
from deployments.ingress.deployment import IngressDeployment
from deployments.model_configs import DiarizationConfig, ModelConfig
from deployments.settings import AUDIO, DIARIZATION, INGRESS, Settings
from deployments.unloading import UnloadWhenIdle


@dataclass(frozen=True, slots=True)
class Part:
    """A deployment of the graph: its name in config files, its class, and what that is built from."""

    name: str
    deployment: Deployment
    args: tuple[Any, ...]


def ingress(settings: Settings) -> Part:
    """It takes the other parts' handles beside its arguments."""
    return Part(INGRESS, IngressDeployment, (settings,))


def inner_parts(settings: Settings) -> list[Part]:
    """All but the ingress."""
    parts = [Part(AUDIO, AudioDeployment, (settings.limits.decoding(),))]
    parts += [_part(model.deployment_name, AsrDeployment, model) for model in settings.speech_models]
    parts += [_part(model.deployment_name, ChatDeployment, model) for model in settings.chat_models]
    if settings.diarization:
        parts.append(_part(DIARIZATION, DiarizationDeployment, settings.diarization))
    return parts


def _part(name: str, deployment: Deployment, config: ModelConfig | DiarizationConfig) -> Part:
    if config.unload_after_s is not None:
        scaling = none_or_one_replica(UnloadWhenIdle, unload_after_s=config.unload_after_s)
        deployment = deployment.options(autoscaling_config=scaling)
    return Part(name, deployment, (config,))
