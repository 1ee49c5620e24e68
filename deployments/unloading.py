"""When a model that nobody asks is unloaded: a policy for Serve's autoscaling, which takes it along to its controller.

Serve's own policy looks every few seconds at how many requests there are, and so misses short ones: a model that is
asked now and then would go. Here its replica tells for how long it has been idle.
"""

from typing import Any

IDLE_S = "idle_s"
"""What a replica calls it in its autoscaling stats."""


class UnloadWhenIdle:
    """One replica, or none once it has been idle for `unload_after_s`. From none Serve starts one by itself."""

    def __init__(self, unload_after_s: float) -> None:
        self._unload_after_s = unload_after_s

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """`context`: an `AutoscalingContext`. Returns how many replicas there should be, and no state."""
        if not context.running_replicas:
            return context.target_num_replicas, {}
        told = (context.raw_metrics or {}).get(IDLE_S, {})
        newest_s = [points[-1].value for points in told.values() if points]
        is_idle = bool(newest_s) and min(newest_s) >= self._unload_after_s
        # of what Serve has seen in its look-back period it would start one again at once
        return (0 if is_idle and not context.total_num_requests else 1), {}
