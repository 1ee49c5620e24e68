"""Reads a Serve config file strictly, before anything starts.

Serve itself ignores unknown keys in a deployment's override and waits for ever for resources that cannot
be had; here both are one clear sentence.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve import Deployment
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from deployments.autoscaling import AudioBacklogPolicy
from deployments.compat.serve import num_cpus, num_gpus, schema_fields
from deployments.decoding.deployment import UserConfig
from deployments.environment import API_KEYS_FILE_VARIABLE, API_KEYS_VARIABLE, SECRET_VARIABLES
from deployments.graph import ingress, inner_parts
from deployments.ingress.media.fetch import allowed_host
from deployments.settings import DIARIZATION, Settings
from pipelines.errors import ConfigurationError

AUDIO_BACKLOG = f"{AudioBacklogPolicy.__module__}:{AudioBacklogPolicy.__name__}"
"""As `policy_function` names it."""

ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")
DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")
"""Browsers leave it out."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def load_config(path: Path) -> ServeDeploySchema:
    """Read and check a config file.

    Raises:
        ConfigurationError: naming the file and the mistake.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: Not YAML: {' '.join(str(error).split())}.") from None
    try:
        config = ServeDeploySchema.model_validate(data)
        _refuse_unknown_keys(data, ServeDeploySchema, "the file")
        if not config.applications:
            raise ConfigurationError("There is no application to run.")
        for application in config.applications:
            _check_application(application)
            _check_openness(application, config.http_options.host)
            _refuse_secrets(application)
        _check_place(config)
        _check_port_number(config)
    except ValidationError as error:
        mistake = error.errors()[0]
        place = ".".join(str(step) for step in mistake["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {place}: {mistake['msg']}.") from None
    except ImportError as error:  # Serve imports an autoscaling policy while it reads
        raise ConfigurationError(f"{path}: autoscaling_config.policy: {error}.") from None
    except (AttributeError, TypeError):  # Serve's own validators trip over what has quite another shape
        raise ConfigurationError(f"{path}: This is not the shape of a Serve config file.") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from None
    return config


def check_resources(config: ServeDeploySchema, num_cpus: float, num_gpus: float) -> None:
    """Refuse what can never start on `num_cpus` and `num_gpus`.

    Raises:
        ConfigurationError
    """
    needed = {"CPU": 0.0, "GPU": 0.0}
    shares: list[float] = []
    for application in config.applications:
        overrides = {override.name: override for override in application.deployments}
        for name, default in _built(application).items():
            num_replicas, options = _at_start(default, overrides.get(name))
            needed["CPU"] += num_replicas * options.get("num_cpus", 1.0)
            needed["GPU"] += num_replicas * options.get("num_gpus", 0.0)
            shares += num_replicas * [options.get("num_gpus", 0.0)]
    for kind, available in (("CPU", num_cpus), ("GPU", num_gpus)):
        if round(needed[kind], 4) > available:  # 0.4 + 0.2 is a little more than 0.6
            raise ConfigurationError(
                f"This configuration needs {needed[kind]:g} {kind}s to start, but there are {available:g}: "
                f"lower num_{kind.lower()}s or the number of replicas under 'deployments'."
            )
    if not _fit_together(shares, ceil(num_gpus)):
        raise ConfigurationError(
            f"The shares of a GPU that this configuration needs to start do not fit into {num_gpus:g} of them: each "
            "must have room on one. Choose other num_gpus under 'deployments'."
        )


def _fit_together(shares: Sequence[float], num_gpus: int) -> bool:
    """Whether each finds room on one GPU, the largest first, or has some to itself."""
    left = [1.0] * num_gpus
    for share in sorted(shares, reverse=True):
        for _ in range(ceil(share)):
            place = next((place for place, room in enumerate(left) if round(room - min(share, 1.0), 4) >= 0), None)
            if place is None:
                return False
            left[place] -= min(share, 1.0)
    return True


def local_resources() -> tuple[float, float]:
    """CPUs and GPUs of this machine."""
    return float(num_cpus()), float(num_gpus())


def _check_application(application: ServeApplicationSchema) -> None:
    built = _built(application)
    names = [deployment.name for deployment in application.deployments]
    if len(names) != len(set(names)):
        raise ConfigurationError("A deployment is configured twice.")
    for deployment in application.deployments:
        if deployment.name not in built:
            raise ConfigurationError(
                f"There is no deployment '{deployment.name}'; there are: {', '.join(sorted(built))}."
            )
        is_batching = built[deployment.name].user_config is not None
        # what is no dict is Serve's own default
        if isinstance(deployment.user_config, dict):
            if not is_batching:
                raise ConfigurationError(f"'{deployment.name}' does not batch: leave its 'user_config' out.")
            UserConfig.model_validate(deployment.user_config)
        _check_policy(deployment, built[deployment.name])
        _check_share(deployment)
    _refuse_two_scalings(application)
    settings = Settings.model_validate(application.args)
    check_hosts(settings.media.allowed_hosts)
    check_origins(settings.cors.allow_origins)
    whole = application.model_dump(exclude_unset=True).get("autoscaling_policy")
    if isinstance(whole, dict) and _names(whole) == AUDIO_BACKLOG:
        raise ConfigurationError(f"{AUDIO_BACKLOG} is for one deployment: say it in its 'autoscaling_config'.")


def check_hosts(hosts: Iterable[str]) -> None:
    """The ingress would only say in its log what is none, for ever starting anew.

    Raises:
        ConfigurationError
    """
    for host in hosts:
        allowed_host(host)


def check_origins(origins: Iterable[str]) -> None:
    """No browser would ever send what is none.

    Raises:
        ConfigurationError
    """
    for origin in origins:
        if not ORIGIN.fullmatch(origin) or DEFAULT_PORT.fullmatch(origin):
            raise ConfigurationError(
                f"{origin!r} is no origin of web pages: they are like 'https://app.example' or "
                "'http://localhost:3000', in small letters, and have no path, nor the port that goes without saying; "
                "'*' is all of them."
            )


def _check_place(config: ServeDeploySchema) -> None:
    """The page and its snippets, and who asks whether it is up, know it at "/"."""
    for application in config.applications:
        if application.route_prefix != "/":
            raise ConfigurationError("It answers at '/': leave 'route_prefix' out, and put a proxy before it instead.")
    if config.http_options.root_path:
        raise ConfigurationError("It answers at '/': leave 'root_path' out, and put a proxy before it instead.")


def _check_port_number(config: ServeDeploySchema) -> None:
    """No socket takes another."""
    if not 0 < config.http_options.port < 65_536:
        raise ConfigurationError(f"There is no port {config.http_options.port}: 'port' is from 1 to 65535.")


def _refuse_secrets(application: ServeApplicationSchema) -> None:
    """Ray's agents write every runtime environment into their logs, as it is."""
    whole = application.model_dump(exclude_unset=True)
    options = [deployment.get("ray_actor_options") or {} for deployment in whole.get("deployments", ())]
    for environment in (whole.get("runtime_env") or {}, *(one.get("runtime_env") or {} for one in options)):
        for name in SECRET_VARIABLES:
            if name in environment.get("env_vars", {}):
                other = f", or put the keys into a file and name that by {API_KEYS_FILE_VARIABLE}"
                raise ConfigurationError(
                    f"{name} in a 'runtime_env' would stand in Ray's logs: set it where Ray is started on the nodes"
                    f"{other if name == API_KEYS_VARIABLE else ''}."
                )


def _check_policy(override: DeploymentSchema, built: Deployment) -> None:
    """Serve would find a wrong argument only when it runs the policy."""
    autoscaling = override.model_dump(exclude_unset=True).get("autoscaling_config")
    policy = autoscaling.get("policy") if isinstance(autoscaling, dict) else None
    if not isinstance(policy, dict) or _names(policy) != AUDIO_BACKLOG:
        return
    if not getattr(built.func_or_class, "measures_audio", False):
        raise ConfigurationError(f"{AUDIO_BACKLOG} is for deployments that hear: '{override.name}' measures no audio.")
    AudioBacklogPolicy.model_validate(policy.get("policy_kwargs", {}))


def _check_share(override: DeploymentSchema) -> None:
    """Ray refuses another one only when it starts a replica, again and again."""
    share = (override.model_dump(exclude_unset=True).get("ray_actor_options") or {}).get("num_gpus") or 0
    if share > 1 and share % 1:
        raise ConfigurationError(f"'{override.name}' asks for {share:g} GPUs: from one on it must be whole GPUs.")


def _names(policy: Mapping[str, Any]) -> str:
    """What Serve also takes with a dot for the colon."""
    module, _, name = str(policy.get("policy_function")).replace(":", ".").rpartition(".")
    return f"{module}:{name}"


def _refuse_two_scalings(application: ServeApplicationSchema) -> None:
    """Serve would heed neither of them alone: `num_replicas` is ignored beside the code's autoscaling, and an
    `autoscaling_config` of the file replaces that of the code, which unloads."""
    given = {override.name: override.model_fields_set for override in application.deployments}
    settings = Settings.model_validate(application.args)
    unloaded = [(model.id, model.deployment_name) for model in settings.models if model.unload_after_s is not None]
    if settings.diarization and settings.diarization.unload_after_s is not None:
        unloaded.append((DIARIZATION, DIARIZATION))
    for (what, name), key in product(unloaded, ("num_replicas", "autoscaling_config")):
        if key in given.get(name, ()):
            raise ConfigurationError(f"'{what}' has 'unload_after_s', so '{name}' cannot have '{key}' as well.")


def _check_openness(application: ServeApplicationSchema, host: str) -> None:
    settings = Settings.model_validate(application.args)
    if settings.haproxy and host in LOOPBACK:
        raise ConfigurationError(
            f"It listens on {host} only, but HAProxy would show its statistics everywhere (ports 8404, 9101): "
            "say 'haproxy: false', or let it listen on another host, behind a firewall."
        )
    if settings.require_api_key is None and host not in LOOPBACK:
        raise ConfigurationError(
            f"It listens on {host}, where others can ask it: say 'require_api_key: true' in args and set "
            f"{API_KEYS_VARIABLE}, or say 'require_api_key: false'."
        )


def _built(application: ServeApplicationSchema) -> dict[str, Deployment]:
    """The deployments that `deployments.app:build` would make, by name."""
    settings = Settings.model_validate(application.args)
    return {part.name: part.deployment for part in (ingress(settings), *inner_parts(settings))}


def _at_start(default: Deployment, override: DeploymentSchema | None) -> tuple[int, dict[str, Any]]:
    """How many replicas there are at first, and what each needs. An override replaces the code's options whole."""
    given = override.model_dump(exclude_unset=True) if override else {}
    options = given.get("ray_actor_options", default.ray_actor_options) or {}
    autoscaling = given.get("autoscaling_config")
    if autoscaling is not None or given.get("num_replicas") == "auto":
        autoscaling = autoscaling or {}
        initial = autoscaling.get("initial_replicas")
        return int(initial if initial is not None else autoscaling.get("min_replicas", 1)), options
    return int(given.get("num_replicas") or default.num_replicas), options


def _refuse_unknown_keys(data: dict[str, Any], schema: type[BaseModel], place: str) -> None:
    """Compare a valid config with Serve's own schemas, which let unknown keys pass."""
    fields = schema_fields(schema)
    for key, value in data.items():
        if key not in fields:
            raise ConfigurationError(f"Unknown key '{key}' in {place}.")
        inner = fields[key]
        if inner is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                _refuse_unknown_keys(item, inner, _place_of(key, item, data))


def _place_of(key: str, item: dict[str, Any], owner: dict[str, Any]) -> str:
    if key in ("applications", "deployments"):
        return f"{key[:-1]} '{item.get('name')}'"
    return f"{key} of '{owner['name']}'" if "name" in owner else key
