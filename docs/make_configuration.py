"""Writes docs/configuration.md from the settings themselves: `python -m docs.make_configuration`.

A key's meaning is the docstring behind its field; `tests/test_configuration_page.py` fails where the page is older.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from ray.serve import Deployment
from ray.serve.deployment import deployment_to_schema

from deployments.decoding.deployment import UserConfig
from deployments.graph import ingress, inner_parts
from deployments.model_configs import Alias, ChatModelConfig, DiarizationConfig, SamplingConfig, SpeechModelConfig
from deployments.settings import CorsConfig, LimitsConfig, MediaConfig, Settings

PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration

A configuration is a Serve config file: `auricle config embedded > mine.yaml` prints one to make your own of,
`auricle check mine.yaml` says whether it is fine, `auricle serve mine.yaml` runs it. An unknown key is refused, and so
is a value that is not allowed, in one sentence that names the place.

This page is made by `python -m docs.make_configuration` from the code that reads the keys: change it there.
"""

DEPLOYMENTS = """\
## `deployments`

How much of it runs, in [Serve's own words](https://docs.ray.io/en/latest/serve/configure-serve-deployment.html), beside
`args`: `num_replicas` or `autoscaling_config`, `ray_actor_options` (`num_cpus`, fractional `num_gpus`),
`max_ongoing_requests`, `max_queued_requests`, `graceful_shutdown_timeout_s`, `health_check_period_s`, `user_config`.
What is left out is as here, and there is one replica of each. `ray_actor_options` take the place of these as a whole:
repeat `num_cpus` where you set `num_gpus`. Leave the ingress unbounded: the inner deployments' queues are what turns
into a 429.
"""

USER_CONFIG = """\
## `user_config`

Of `asr-<name>` and `chat-<name>`. It may change without a restart.
"""

ENVIRONMENT = """\
## Environment

Read where a replica starts. On a cluster that runs already these must stand where Ray was started on its nodes, or in
the application's `runtime_env: {env_vars: {…}}`: a shell's environment does not reach it. Ray writes a `runtime_env`
into its logs, so `AURICLE_API_KEYS`, `AURICLE_CLIENT_SECRET_KEY` and `HF_TOKEN` are refused there.

| variable | meaning |
|---|---|
| `AURICLE_API_KEYS` | comma separated; clients must send one of them, or of the file's, as a bearer token. Without \
any nobody needs a key. They are called `key-1`, `key-2` … in the metrics, and have no limits |
| `AURICLE_API_KEYS_FILE` | a YAML file of more keys: under `keys`, each with `name`, `key` or `sha256` of it in \
hexadecimal digits, and, where it shall be limited, `requests_per_hour`, `audio_minutes_per_hour` and `max_sessions` \
(realtime, at one ingress replica). Read when an ingress replica starts |
| `AURICLE_ALLOWED_MEDIA_HOSTS` | comma separated; adds to `media.allowed_hosts` |
| `AURICLE_CORS_ORIGINS` | comma separated; adds to `cors.allow_origins` |
| `AURICLE_CLIENT_SECRET_KEY` | what realtime client secrets are signed with, any long text; by default a new one \
at every deployment, which ends the secrets of the one before. It is read where the application is built |
| `AURICLE_MODELS` | where the embedded models lie; by default `auricle/models` in `XDG_CACHE_HOME` or `~/.cache` |
| `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE` | Hugging Face's own, for checkpoints from the hub |
| `RAY_SERVE_ENABLE_HA_PROXY`, `RAY_SERVE_HAPROXY_BINARY_PATH`, `RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S` | `1`, the path \
of `auricle-haproxy` and `3960`, where `haproxy` is `true` and `auricle serve` does not start Ray \
([why](operations.md#haproxy)) |
| `RAY_ADDRESS` | the cluster that `auricle serve` runs on; unset or `local`: one of its own |
"""

TABLES: list[tuple[str, str, type[BaseModel]]] = [
    ("`args`", "", Settings),
    ("`models[]` that transcribe", "models[].", SpeechModelConfig),
    ("`models[]` that chat", "models[].", ChatModelConfig),
    ("`models[].aliases[]`", "models[].aliases[].", Alias),
    ("`models[].sampling`", "models[].sampling.", SamplingConfig),
    ("`diarization`", "diarization.", DiarizationConfig),
    ("`media`", "media.", MediaConfig),
    ("`cors`", "cors.", CorsConfig),
    ("`limits`", "limits.", LimitsConfig),
]

BY_ID = {"name", "source", "family", "tasks"}
"""Their fields' own defaults are replaced by what the id tells."""

BOUNDS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}
WORDS = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}


def page() -> str:
    parts = [INTRODUCTION, *(_section(*table) for table in TABLES), _deployments()]
    parts += [USER_CONFIG + "\n" + _table("", UserConfig), ENVIRONMENT]
    return "\n".join(parts)


def _section(title: str, prefix: str, model: type[BaseModel]) -> str:
    return f"## {title}\n\n{_table(prefix, model)}"


def _table(prefix: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{prefix}{name}` | {_default(name, field)} | {_allowed(field)} | {_one_line(field.description or '')} |\n"
        for name, field in model.model_fields.items()
    ]
    return "| key | default | allowed | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if name in BY_ID:
        return "by id"
    if isinstance(field.default, BaseModel):
        return "as below"
    if field.default in (None, ()):
        return "none"
    return f"`{_yaml(field.default)}`"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    words = " or ".join(dict.fromkeys(_words(field.annotation)))
    bounds = [_bound(one) for one in field.metadata if type(one) in BOUNDS]
    return " ".join([words, ", ".join(bounds)]).strip()


def _words(annotation: Any) -> Iterator[str]:
    """What a value may be, in a reader's words; `None` is told by the default."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield ", ".join(f"`{value}`" for value in inner)
    elif origin is Annotated:
        yield from _words(inner[0])
    elif origin in (Union, UnionType):
        yield from (word for one in inner if one is not NoneType for word in _words(one))
    elif origin is tuple:
        yield "list of " + " or ".join(dict.fromkeys(_words(inner[0])))
    else:
        yield WORDS.get(annotation, "keys below")


def _bound(bound: Any) -> str:
    (value,) = vars(bound).values() if hasattr(bound, "__dict__") else [getattr(bound, type(bound).__name__.lower())]
    return f"{BOUNDS[type(bound)]} {value:g}"


def _one_line(text: str) -> str:
    """A page of this directory that a description names becomes a link."""
    return re.sub(r"`docs/([a-z]+\.md)`", r"[\1](\1)", " ".join(text.split()))


def _deployments() -> str:
    model = {"id": "<name>", "name": "x"}
    settings = Settings.model_validate(
        {"models": [model, {**model, "id": "<chat>", "task": "chat"}], "diarization": {"source": "a-pipeline"}}
    )
    parts = [ingress(settings), *inner_parts(settings)]
    rows = [_cells(part.name.replace("-x", "-<name>"), part.deployment) for part in parts]
    head = "| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|\n"
    return f"{DEPLOYMENTS}\n{head}" + "".join("| " + " | ".join(row.values()) + " |\n" for row in rows)


def _cells(name: str, deployment: Deployment) -> dict[str, str]:
    schema = deployment_to_schema(deployment)
    options = schema.ray_actor_options.model_dump(exclude_unset=True)
    num_queued = schema.max_queued_requests
    return {
        "name": f"`{name}`",
        "`num_cpus`": str(options["num_cpus"]),
        "`max_ongoing_requests`": str(schema.max_ongoing_requests),
        "`max_queued_requests`": "any number" if num_queued == -1 else str(num_queued),
        "`health_check_period_s`": f"{schema.health_check_period_s:g}",
        "`graceful_shutdown_timeout_s`": f"{schema.graceful_shutdown_timeout_s:g}",
    }


if __name__ == "__main__":
    PAGE.write_text(page())
