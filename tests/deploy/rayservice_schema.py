"""What our manifests use of KubeRay 1.7's RayService: names, types and choices, and nothing else.

No package carries KubeRay's own definition. Pod templates, resources and security contexts are Kubernetes', whose
schemas are asked for them.
"""

from typing import Any

ANYTHING: dict[str, Any] = {}
TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    names = required.split()
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def _choice(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}
"""Texts, also where Ray wants a number."""

UPGRADE = _object(
    "type",
    type=_choice("NewCluster", "NewClusterWithIncrementalUpgrade", "None"),
    clusterUpgradeOptions=_object(
        "gatewayClassName intervalSeconds stepSizePercent",
        gatewayClassName=TEXT,
        intervalSeconds={"type": "integer", "minimum": 1},
        stepSizePercent=PERCENT,
        maxSurgePercent=PERCENT,
    ),
)

AUTOSCALER = _object(
    version=_choice("v1", "v2"), idleTimeoutSeconds=COUNT, securityContext=ANYTHING, resources=ANYTHING
)

WORKERS = _object(
    "groupName template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=START_PARAMS,
    template=ANYTHING,
)

CLUSTER = _object(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=_object(mode=_choice("disabled", "token"), secretName=TEXT),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=_object("template", rayStartParams=START_PARAMS, template=ANYTHING),
    workerGroupSpecs={"type": "array", "items": WORKERS},
)

RAY_SERVICE = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=_object("name", name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}, labels=ANYTHING),
    spec=_object(
        "rayClusterConfig",
        upgradeStrategy=UPGRADE,
        excludeHeadPodFromServeSvc={"type": "boolean"},
        serveConfigV2=TEXT,
        rayClusterConfig=CLUSTER,
    ),
)
