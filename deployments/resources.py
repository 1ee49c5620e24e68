"""What Ray gave the replica that this process is."""

import ray


def assigned_device(device: str) -> str:
    """torch's name of it; "auto" is the GPU that this replica was given, else the CPU.

    A replica that was given none may still see one: Ray does not hide what it did not assign.
    """
    if device != "auto":
        return device
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


def assigned_gpu_share() -> float:
    """Of a GPU, or how many of them."""
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))


def assigned_threads() -> int:
    """CPU threads that Ray gave this replica; Ray itself exports OMP_NUM_THREADS=1 for every fraction."""
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    return max(int(cpus), 1)
