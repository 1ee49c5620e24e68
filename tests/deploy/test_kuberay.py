"""The manifests are what Kubernetes and KubeRay take, and fit the configuration that they carry."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.deployment import deployment_to_schema

from deployments.config_file import check_resources, load_config
from deployments.graph import ingress, inner_parts
from deployments.settings import Settings
from tests.conftest import ROOT
from tests.deploy.rayservice_schema import RAY_SERVICE
from tests.deploy.test_docker import DOCKERFILE

KUBERAY = ROOT / "deploy" / "kuberay"
KUBERNETES = "1.33"
VARIANTS = {"cpu": "cpu.yaml", "gpu": "cluster.yaml"}
"""And the configuration that each carries."""

IMAGE = "registry.example/auricle:0.1.0"
Document = dict[str, Any]


@cache
def rendered(variant: str, *arguments: str) -> list[Document]:
    """As a user renders it."""
    program = [sys.executable, "deploy/kuberay/render.py", variant, "--image", IMAGE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return list(yaml.safe_load_all(done.stdout))


COMMON: list[Document] = list(yaml.safe_load_all((KUBERAY / "common.yaml").read_text()))


def of_kind(kind: str, documents: list[Document]) -> Document:
    (document,) = (document for document in documents if document["kind"] == kind)
    return document


def cluster(variant: str) -> Document:
    found: Document = of_kind("RayService", rendered(variant))["spec"]["rayClusterConfig"]
    return found


def templates(variant: str) -> Iterator[Document]:
    yield cluster(variant)["headGroupSpec"]["template"]
    for group in cluster(variant)["workerGroupSpecs"]:
        yield group["template"]


def settings_of(config: str) -> Settings:
    return Settings.model_validate(load_config(ROOT / "configs" / config).applications[0].args)


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_what_every_variant_needs_is_kubernetes() -> None:
    assert {document["kind"] for document in COMMON} == {"ConfigMap", "PersistentVolumeClaim", "NetworkPolicy"}
    for document in COMMON:
        validate(document)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_service_is_kuberay_s(variant: str) -> None:
    service = of_kind("RayService", rendered(variant))
    jsonschema.validate(service, RAY_SERVICE)
    for document in rendered(variant):
        if document is not service:
            validate(document)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_kubernetes(variant: str) -> None:
    for template in templates(variant):
        validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template})


def test_a_misspelled_field_of_a_pod_is_noticed() -> None:
    template = {"spec": {"containers": [{"name": "ray", "image": IMAGE, "readynessProbe": {}}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template})


def test_the_autoscaler_s_container_is_kubernetes() -> None:
    options = cluster("gpu")["autoscalerOptions"]
    container = {"name": "autoscaler", "resources": options["resources"], "securityContext": options["securityContext"]}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [container]}})


@pytest.mark.parametrize(("variant", "config"), VARIANTS.items())
def test_it_carries_a_configuration_as_it_is(variant: str, config: str, tmp_path: Path) -> None:
    text = of_kind("RayService", rendered(variant))["spec"]["serveConfigV2"]
    assert text == (ROOT / "configs" / config).read_text()
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml").applications[0].args["require_api_key"] is True


def test_another_configuration_may_be_carried_but_no_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((ROOT / "configs" / "gpu.yaml").read_text())
    (service, _) = rendered("gpu", "--config", str(tmp_path / "config.yaml"))
    assert service["spec"]["serveConfigV2"] == (tmp_path / "config.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text("applications: []")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered("gpu", "--config", str(tmp_path / "wrong.yaml"))
    assert refused.value.returncode == 2
    assert "no application" in refused.value.stderr


def test_what_listens_where_no_probe_comes_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered("cpu", "--config", str(ROOT / "configs" / "embedded.yaml"))
    assert refused.value.returncode == 2
    assert "say 'host: 0.0.0.0' and 'port: 8000' under 'http_options'." in refused.value.stderr


@pytest.mark.parametrize(("variant", "config"), VARIANTS.items())
def test_the_smallest_cluster_can_start_it(variant: str, config: str) -> None:
    groups = cluster(variant)["workerGroupSpecs"]
    have = {"cpu": 0.0, "nvidia.com/gpu": 0.0}
    for group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for kind in have:
            have[kind] += group["minReplicas"] * float(limits.get(kind, 0))
    check_resources(load_config(ROOT / "configs" / config), have["cpu"], have["nvidia.com/gpu"])


def test_two_ingresses_may_lose_one_node() -> None:
    (application,) = load_config(ROOT / "configs" / "cluster.yaml").applications
    (front,) = (deployment for deployment in application.deployments if deployment.name == "ingress")
    budget = of_kind("PodDisruptionBudget", rendered("gpu"))["spec"]
    assert front.num_replicas >= 2
    assert cluster("gpu")["workerGroupSpecs"][0]["minReplicas"] > budget["minAvailable"] >= 1
    assert cluster("gpu")["workerGroupSpecs"][0]["maxReplicas"] > cluster("gpu")["workerGroupSpecs"][0]["minReplicas"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_head_is_for_serve_s_controller_alone(variant: str) -> None:
    assert cluster(variant)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert of_kind("RayService", rendered(variant))["spec"]["excludeHeadPodFromServeSvc"] is True


@pytest.mark.parametrize(("variant", "config"), VARIANTS.items())
def test_a_pod_waits_for_its_replicas(variant: str, config: str) -> None:
    """For the deadline of the drain, and then for as long as Serve lets a replica finish."""
    settings = settings_of(config)
    parts = [ingress(settings), *inner_parts(settings)]
    longest_s = max(deployment_to_schema(part.deployment).graceful_shutdown_timeout_s for part in parts)
    for group in cluster(variant)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
        (deadline_s,) = re.findall(r"--deadline-remaining-seconds (\d+)", command)
        assert spec["terminationGracePeriodSeconds"] >= int(deadline_s) + longest_s


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_waits_for_its_proxy_too(variant: str) -> None:
    """It may carry what replicas of other nodes work on."""
    for group in cluster(variant)["workerGroupSpecs"]:
        command = group["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
        (pattern,) = re.findall('grep -qsaE "(.+)" /proc', command)
        assert all(re.match(pattern, f"ray::{title}") for title in ("ServeReplica:auricle:audio", "HAProxyManager"))
        assert re.match(pattern, "ray::ProxyActor")
        assert not re.match(pattern, "ray::IDLE")


@pytest.mark.parametrize("variant", VARIANTS)
def test_nobody_is_root_and_keys_come_from_a_secret(variant: str) -> None:
    for template in templates(variant):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["image"] == IMAGE
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert "env" not in container
        assert container["envFrom"][:2] == [
            {"configMapRef": {"name": "auricle-environment"}},
            {"secretRef": {"name": "auricle-keys"}},
        ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_haproxy_is_on_where_the_configuration_says_so(variant: str) -> None:
    settings = settings_of(VARIANTS[variant])
    for template in templates(variant):
        (container,) = template["spec"]["containers"]
        assert container["envFrom"][2:] == [{"configMapRef": {"name": "auricle-haproxy"}}] * settings.haproxy
    (haproxy,) = (document["data"] for document in COMMON if document["metadata"]["name"] == "auricle-haproxy")
    assert haproxy["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert f"\nCOPY --from=build {Path(haproxy['RAY_SERVE_HAPROXY_BINARY_PATH']).parent.parent} " in DOCKERFILE
    assert float(haproxy["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > settings.limits.longest_s


def test_the_cluster_s_configuration_says_so() -> None:
    assert settings_of("cluster.yaml").haproxy
    assert not settings_of("cpu.yaml").haproxy


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_policy_holds_for_all_pods_and_opens_one_port_to_everybody(variant: str) -> None:
    policy = of_kind("NetworkPolicy", COMMON)["spec"]
    selected = policy["podSelector"]["matchLabels"]
    assert all(template["metadata"]["labels"].items() >= selected.items() for template in templates(variant))
    assert policy["policyTypes"] == ["Ingress"]
    to_everybody = [rule["ports"] for rule in policy["ingress"] if "from" not in rule]
    assert to_everybody == [[{"protocol": "TCP", "port": 8000}]]
    assert yaml.safe_load((ROOT / "configs" / VARIANTS[variant]).read_text())["http_options"]["port"] == 8000


@pytest.mark.parametrize("variant", VARIANTS)
def test_ray_is_the_version_that_is_installed(variant: str) -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert cluster(variant)["rayVersion"] == pinned
    assert cluster(variant)["authOptions"] == {"mode": "token"}
