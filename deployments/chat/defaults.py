"""What a checkpoint's own `generation_config.json` says about how its answers are drawn."""

from transformers import GenerationConfig

from deployments.compat.transformers import is_from_model_config
from pipelines.chat_types import SamplingDefaults


def sampling_defaults(config: GenerationConfig) -> SamplingDefaults:
    """`do_sample: false` means greedy, as it does for transformers' `generate`. What is not said stays as at OpenAI."""
    if is_from_model_config(config):  # nobody wrote such a file: what is found in config.json instead is no wish
        return SamplingDefaults()
    said = {
        "temperature": 0.0 if config.do_sample is False else config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "min_p": config.min_p,
        "repetition_penalty": config.repetition_penalty,
    }
    return SamplingDefaults(**{name: value for name, value in said.items() if value is not None})
