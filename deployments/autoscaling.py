"""How many replicas there should be: Serve's autoscaling by the audio that waits, where Serve itself counts calls.

Serve pickles this module whole and runs it in its controller, so it imports nothing of the house but constants.
"""

from statistics import mean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray.serve.config import AutoscalingContext

from deployments.backlog import AUDIO, LENGTH, SPEED


class AudioBacklogPolicy(BaseModel):
    """As many replicas as work off in `target_wait_s` what waits and what is worked on, by the speed that they measure.

    Calls differ in length a hundredfold, so their number tells nothing of how long the next one waits; audio divided
    by speed does. What waits at handles has the mean length of what was done. For deployments that measure audio
    (`record_autoscaling_stats`); Serve applies its own bounds, factors and delays to the answer.

    target_wait_s: seconds from a call's arrival to its answer that are held under steady load. It should be longer than
        one batch, or the longest stretch, takes: less than one call cannot be shared.

    Raises:
        ValidationError: of pydantic, also for an argument that is not there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_wait_s: float = Field(gt=0, allow_inf_nan=False)

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas, and no state. While nobody has done anything yet, and there is work, nothing changes."""
        speeds = _reported(ctx, SPEED)
        if not speeds:
            return (ctx.target_num_replicas if ctx.total_num_requests else 0), {}
        waiting_s = ctx.total_queued_requests * mean(_reported(ctx, LENGTH))
        audio_s = sum(_reported(ctx, AUDIO)) + waiting_s
        return audio_s / (mean(speeds) * self.target_wait_s), {}


def _reported(ctx: AutoscalingContext, name: str) -> list[float]:
    """Of every replica that has told so far."""
    return list((ctx.aggregated_metrics or {}).get(name, {}).values())
