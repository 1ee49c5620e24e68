"""Where a configuration's server is reached from this machine: whether that is free, and whether it is up."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.serve.schema import ServeDeploySchema

from pipelines.errors import ConfigurationError

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

# this machine's own server is asked past every proxy of the environment, and vouches for itself
_unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_unverified.check_hostname, _unverified.verify_mode = False, ssl.CERT_NONE
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_unverified))


@dataclass(frozen=True, slots=True)
class Health:
    """failed: deployments that will not start, and why."""

    is_up: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)


def address_of(config: ServeDeploySchema) -> str:
    options = config.http_options
    host = EVERYWHERE.get(options.host, options.host)
    scheme = "https" if options.ssl_certfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{options.port}"


def check_port(config: ServeDeploySchema) -> None:
    """Serve would share the port with whoever listens there, and each of them get a part of the requests.

    Raises:
        ConfigurationError
    """
    host, port = config.http_options.host, config.http_options.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
            probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"It cannot listen on {host}, port {port}: {error.strerror}. Stop what does, or say another 'port' under "
            "'http_options'."
        ) from None


def health_of(address: str) -> Health:
    try:
        with _opener.open(f"{address}/health", timeout=5):
            return Health(is_up=True)
    except urllib.error.HTTPError as error:
        try:
            answer = json.load(error)
        except ValueError:  # not our answer yet
            return Health()
        failed = answer.get("failed") if isinstance(answer, dict) else None
        return Health(failed=failed if isinstance(failed, dict) else {})
    except (urllib.error.URLError, OSError):
        return Health()
