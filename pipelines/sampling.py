"""How tokens are drawn: what every request may ask of Whisper and of a chat model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Travels with every row of a batch, so users never share options.

    temperature: 0 takes the most probable token.
    seed: two answers of one model with equal seeds and options are equal.
    top_k: 0 is any number.
    max_tokens: None is as many as there is room for.
    """

    temperature: float = 0.0
    seed: int | None = None
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    max_tokens: int | None = None
