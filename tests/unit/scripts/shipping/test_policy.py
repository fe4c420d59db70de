import copy
from typing import Any

import msgspec
import pytest

from scripts.shipping.policy import Facts, pods, violations

FACTS = Facts(
    version="1.2.3",
    ports={
        "inference": 80,
        "management": 81,
        "metrics": 82,
        "exporter": 83,
        "grpc_inference": 70,
        "grpc_management": 71,
    },
    startup_s=300,
    metrics=frozenset({"waiting"}),
    user=10001,
    state="/var/lib/classifier",
)
LIMITS = {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi"}
READY = {"exec": {"command": ["/opt/classifier/bin/ready"]}}
CONTAINER = {
    "name": "server",
    "image": "registry.test/team/torchserve-image-classifier:1.2.3",
    "ports": [{"name": "http", "containerPort": 80}],
    "resources": {"limits": LIMITS, "requests": LIMITS},
    "startupProbe": READY | {"periodSeconds": 10, "failureThreshold": 31},
    "readinessProbe": READY,
    "livenessProbe": {"httpGet": {"path": "/metrics", "port": "metrics"}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [
        {"name": "models", "mountPath": "/models", "readOnly": True},
        {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - a manifest's
        {"name": "state", "mountPath": "/var/lib/classifier"},
    ],
}
POD = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
}
LABELS = {"app": "x"}
DOCUMENTS: list[dict[str, Any]] = [
    {
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"template": {"metadata": {"labels": LABELS | {"more": "y"}}, "spec": POD}},
    },
    {
        "kind": "Service",
        "metadata": {"name": "x"},
        "spec": {
            "selector": LABELS,
            "ports": [
                {"name": "http", "port": 80},
                {"name": "metrics", "port": 82},
                {"name": "exporter", "port": 83},
                {"name": "grpc", "port": 70},
            ],
        },
    },
    {"kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": LABELS}}},
    {
        "kind": "NetworkPolicy",
        "metadata": {"name": "x"},
        "spec": {
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 70}]}],
        },
    },
]


def test_manifests_that_agree_with_the_facts_have_no_violation() -> None:
    assert violations(DOCUMENTS, FACTS) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "1.2.4"}, "is not the project's version, 1.2.4"),
        ({"ports": FACTS.ports | {"inference": 8080}}, "are not those of config.properties"),
        ({"startup_s": 310}, "gives up before a model may have loaded, in 310 s"),
    ],
)
def test_a_fact_that_changes_at_its_home_is_missed_in_the_manifests(changed: dict[str, Any], said: str) -> None:
    assert any(said in text for text in violations(DOCUMENTS, msgspec.structs.replace(FACTS, **changed)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"securityContext": {}}, ["may gain privileges", "root file system is writable", "keeps capabilities"]),
        ({"resources": {"limits": LIMITS, "requests": LIMITS | {"cpu": "1"}}}, ["requests differ from limits"]),
        ({"image": "torchserve-image-classifier"}, ["is not an image of this project"]),
        ({"image": "nginx:1.2.3"}, ["is not an image of this project"]),
        ({"volumeMounts": []}, ["are writable instead of"]),
        ({"ports": []}, ["no container has a port"]),
        ({"lifecycle": {}}, ["a drain of 0 s"]),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 11}}}}, ["a drain of 11 s"]),
    ],
    ids=str,
)
def test_a_container_that_lacks_something_is_named(changed: dict[str, Any], said: list[str]) -> None:
    documents = copy.deepcopy(DOCUMENTS)
    documents[0]["spec"]["template"]["spec"]["containers"][0] |= changed
    found = violations(documents, FACTS)
    assert len(found) == len(said)
    for text, expected in zip(found, said, strict=True):
        assert text.startswith("x")
        assert expected in text


def test_a_pod_that_reaches_into_its_host_is_named() -> None:
    for changed in ({"hostPID": True}, {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}):
        documents = copy.deepcopy(DOCUMENTS)
        documents[0]["spec"]["template"]["spec"] |= changed
        assert violations(documents, FACTS) == ["x: it uses namespaces or files of its host"]


def test_what_an_inference_service_says_comes_before_what_its_runtime_says() -> None:
    runtime = {"kind": "ServingRuntime", "metadata": {"name": "r"}, "spec": {"containers": [1], "volumes": [2]}}
    predictor = {"model": {"runtime": "r"}, "volumes": [3]}
    service = {"kind": "InferenceService", "metadata": {"name": "s"}, "spec": {"predictor": predictor}}
    ((name, pod),) = pods([service, runtime])
    assert (name, pod["containers"], pod["volumes"]) == ("s", [1], [3])
