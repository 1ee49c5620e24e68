import subprocess
import sys
from pathlib import Path

SLOW = ("torch", "transformers", "pyannote")


def test_checking_and_deploying_the_graph_loads_no_library_of_an_engine(tmp_path: Path) -> None:
    """They take seconds and hundreds of megabytes, which the ingress and Serve's own processes have no use for."""
    program = f"import sys, deployments.app; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
