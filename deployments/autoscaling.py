"""How many replicas there should be: Serve's autoscaling by the audio that waits, where Serve itself counts calls.

Serve pickles this module whole and runs it in its controller, so it imports nothing of the house but constants.
"""

from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray.serve.config import AutoscalingContext

from deployments.backlog import ARRIVING, AUDIO, LENGTH, SPEED


class AudioBacklogPolicy(BaseModel):
    """As many replicas as keep up with the audio that comes, and work off in `target_wait_s` what is there:

        replicas = (seconds of audio that come in a second + seconds of audio that are there / target_wait_s) / speed

    Calls differ in length a hundredfold, so their number tells nothing of how long the next one waits; audio divided
    by speed does. The first term keeps the replicas that a steady load needs when nothing waits, where a policy that
    sees queues alone would let them go and begin again. What waits at handles has the mean length of what was done.

    For deployments that measure audio (`measures_audio`). Serve applies its bounds, factors and delays.

    target_wait_s: less than a call takes costs replicas that cannot share it.
    audio_s_per_s: speed of one replica with a full batch (`python -m benchmarks.engine`). By default what replicas
        measure at their work, which where batches are not full is less than they could do.

    Raises:
        ValidationError: of pydantic, also for an argument that is not there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_wait_s: float = Field(gt=0, allow_inf_nan=False)
    audio_s_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas, and no state. While there is work and nobody tells how much or how fast, nothing changes."""
        speed = self.audio_s_per_s or _mean(_reported(ctx, SPEED))
        if not speed or not _reported(ctx, AUDIO):
            return (ctx.target_num_replicas if ctx.total_num_requests else 0), {}
        there_s = sum(_reported(ctx, AUDIO)) + ctx.total_queued_requests * _mean(_reported(ctx, LENGTH))
        return (sum(_reported(ctx, ARRIVING)) + there_s / self.target_wait_s) / speed, {}


def _mean(values: list[float]) -> float:
    return fmean(values) if values else 0.0


def _reported(ctx: AutoscalingContext, name: str) -> list[float]:
    """Of every replica that has told so far."""
    return list((ctx.aggregated_metrics or {}).get(name, {}).values())
