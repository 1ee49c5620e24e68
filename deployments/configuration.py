"""Reads a Serve config file strictly, before anything starts.

Serve itself ignores unknown keys in a deployment's override and waits for ever for resources that cannot
be had; here both are one clear sentence.
"""

import glob
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema, ServeApplicationSchema, ServeDeploySchema

from deployments.asr.deployment import UserConfig
from deployments.settings import Settings
from pipelines.errors import ConfigurationError


def load_config(path: Path) -> ServeDeploySchema:
    """Read and check a config file.

    Raises:
        ConfigurationError: naming the file and the mistake.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    try:
        _refuse_unknown_keys(data)
        config = ServeDeploySchema.model_validate(data)
        for application in config.applications:
            _check_application(application)
    except ValidationError as error:
        mistake = error.errors()[0]
        place = ".".join(str(step) for step in mistake["loc"])
        raise ConfigurationError(f"{path}: {place}: {mistake['msg']}.") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from None
    return config


def check_resources(config: ServeDeploySchema, num_cpus: float, num_gpus: float) -> None:
    """Refuse what can never start on `num_cpus` and `num_gpus`.

    Raises:
        ConfigurationError
    """
    needed = {"CPU": 0.0, "GPU": 0.0}
    for application in config.applications:
        for deployment in application.deployments:
            options = deployment.ray_actor_options
            if isinstance(options, RayActorOptionsSchema):
                replicas = _num_replicas_at_start(deployment)
                needed["CPU"] += replicas * (options.num_cpus or 0.0)
                needed["GPU"] += replicas * (options.num_gpus or 0.0)
    for kind, available in (("CPU", num_cpus), ("GPU", num_gpus)):
        if needed[kind] > available:
            raise ConfigurationError(
                f"This configuration needs {needed[kind]:g} {kind}s to start, but there are {available:g}: "
                f"lower num_{kind.lower()}s or the number of replicas under 'deployments'."
            )


def local_resources() -> tuple[float, float]:
    """CPUs and NVIDIA GPUs of this machine."""
    return float(os.cpu_count() or 1), float(len(glob.glob("/dev/nvidia[0-9]*")))


def _check_application(application: ServeApplicationSchema) -> None:
    settings = Settings.model_validate(application.args)
    built = {"ingress", "audio", *(model.deployment_name for model in settings.models)}
    for deployment in application.deployments:
        if deployment.name not in built:
            raise ConfigurationError(
                f"There is no deployment '{deployment.name}'; there are: {', '.join(sorted(built))}."
            )
        if deployment.name.startswith("asr-") and isinstance(deployment.user_config, dict):
            UserConfig.model_validate(deployment.user_config)


def _refuse_unknown_keys(data: Any) -> None:
    """Serve's own models forbid unknown keys at the top and let them pass in a deployment."""
    applications = data.get("applications", []) if isinstance(data, dict) else []
    for application in applications:
        for deployment in application.get("deployments") or []:
            _refuse_keys(deployment, DeploymentSchema, f"deployment '{deployment.get('name')}'")
            options = deployment.get("ray_actor_options") or {}
            _refuse_keys(options, RayActorOptionsSchema, f"ray_actor_options of '{deployment.get('name')}'")


def _refuse_keys(data: dict[str, Any], model: type[BaseModel], place: str) -> None:
    for key in data:
        if key not in model.model_fields:
            raise ConfigurationError(f"Unknown key '{key}' in {place}.")


def _num_replicas_at_start(deployment: DeploymentSchema) -> int:
    autoscaling = deployment.autoscaling_config
    if isinstance(autoscaling, dict):
        initial = autoscaling.get("initial_replicas")
        return int(initial if initial is not None else autoscaling.get("min_replicas", 1))
    return deployment.num_replicas if isinstance(deployment.num_replicas, int) else 1
