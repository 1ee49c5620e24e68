"""What Ray gave the replica that this process is."""

import ray


def assigned_device(device: str) -> str:
    """torch's name of it; "auto" is the GPU that this replica was given, else the CPU.

    A replica that was given none may still see one: Ray does not hide what it did not assign.
    """
    if device != "auto":
        return device
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def assigned_bytes(max_memory_gb: float | None, device: str) -> int | None:
    """What this replica may take: what is said of it, else of a GPU the share that Ray gave, else all that there is."""
    if max_memory_gb is not None:
        return int(max_memory_gb * 1e9)
    if not device.startswith("cuda"):
        return None
    import torch  # takes seconds, and whoever checks or deploys the graph has no use for it

    if not torch.cuda.is_available():  # Ray also gives out GPUs that are none
        return None
    share = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))
    total_bytes = torch.cuda.get_device_properties(torch.device(device)).total_memory
    return int(total_bytes * min(share, 1.0)) if share else None


def assigned_threads() -> int:
    """CPU threads that Ray gave this replica; Ray itself exports OMP_NUM_THREADS=1 for every fraction."""
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    return max(int(cpus), 1)
