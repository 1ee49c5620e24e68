"""What a request asks for, in the pipelines' words."""

import random
from dataclasses import asdict, replace

from deployments.ingress.chat.schema import ChatRequest
from deployments.ingress.http.fields import sampled
from deployments.model_configs import SamplingConfig
from pipelines.chat_types import SamplingDefaults, SamplingOptions


def said(by: ChatRequest | SamplingConfig, defaults: SamplingDefaults) -> SamplingDefaults:
    """`defaults`, where it says nothing else."""
    said = {name: value for name in asdict(defaults) if (value := getattr(by, name)) is not None}
    return replace(defaults, **said)


def to_options(request: ChatRequest, defaults: SamplingDefaults) -> SamplingOptions:
    """Without a seed one is drawn here, so that an answer can be written again where its replica dies."""
    sampling = said(request, defaults)
    return SamplingOptions(
        seed=request.seed if request.seed is not None else random.getrandbits(62),
        temperature=sampled(sampling.temperature),
        top_p=sampling.top_p,
        top_k=max(sampling.top_k, 0),
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias={int(token_id): bias for token_id, bias in request.logit_bias.items()},
        stop=tuple(request.stop),
        max_tokens=request.max_completion_tokens or request.max_tokens,
        top_logprobs=request.top_logprobs if request.logprobs else None,
    )
