"""Types of fields that several bodies have."""

from typing import Annotated

from pydantic import Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]

MIN_TEMPERATURE = 0.001


def sampled(temperature: float) -> float:
    """Hardly above 0 is 0: nothing would be drawn but the most probable token."""
    return temperature if temperature >= MIN_TEMPERATURE else 0.0
