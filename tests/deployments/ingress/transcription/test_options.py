"""A request in the pipelines' words."""

from deployments.ingress.transcription.options import to_options
from deployments.ingress.transcription.schema import TranscriptionRequest
from pipelines.whisper import MAX_PROMPT_CHARACTERS


def test_what_nobody_reads_does_not_travel() -> None:
    """TRP-04: a prompt of any length; its end is read, and the first keywords."""
    request = TranscriptionRequest(
        model="a-model", prompt=f"{'x' * 1_000_000} the end ", keywords=["first", *["y" * 1_000] * 1_000]
    )
    options = to_options(request, "transcribe")
    assert len(options.prompt) == MAX_PROMPT_CHARACTERS
    assert options.prompt.endswith("the end")
    assert options.keywords[0] == "first"
    assert sum(map(len, options.keywords)) == MAX_PROMPT_CHARACTERS
