"""What a checkpoint's own `generation_config.json` says about how its answers are drawn."""

from transformers import GenerationConfig

from pipelines.chat_types import SamplingDefaults


def sampling_defaults(config: GenerationConfig) -> SamplingDefaults:
    """`do_sample: false` means greedy, as it does for transformers' `generate`. What is not said stays as at OpenAI."""
    if config._from_model_config:  # nobody wrote such a file: what transformers finds in config.json instead is no wish
        return SamplingDefaults()
    said = {
        "temperature": 0.0 if config.do_sample is False else config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "min_p": config.min_p,
        "repetition_penalty": config.repetition_penalty,
    }
    return SamplingDefaults(**{name: value for name, value in said.items() if value is not None})
