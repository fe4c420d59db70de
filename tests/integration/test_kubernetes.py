"""The manifests against every validator, and mistakes planted into them, each of which a validator must catch."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from scripts.console import UserError
from scripts.shipping import validate as ship_validate
from scripts.shipping.validate import (
    AUTOSCALING,
    Fault,
    Rendered,
    adapter_queries,
    check_compose,
    check_configurations,
    check_custom_types,
    check_dockerfiles,
    check_policy,
    check_queries,
    check_schemas,
    check_security,
    facts,
    render,
)
from scripts.torchserve.client import Client
from tests.integration.conftest import CHECKOUT, make
from tests.integration.contract import LITE0, post

KUBERNETES = CHECKOUT / "kubernetes"
NOTHING = object()  # takes a field away

POD = ("spec", "template", "spec")
SERVER = (*POD, "containers", 0)


class Mistake(NamedTuple):
    """One field of one rendered manifest set to what it must not be, and what the validator must say of it."""

    overlay: str
    kind: str
    path: tuple[str | int, ...]
    value: Any
    said: str


def planted(rendered: Rendered, mistake: Mistake) -> str:
    """The overlay's documents with the mistake in them."""
    documents = [document for document in yaml.safe_load_all(rendered[mistake.overlay]) if document]
    (where,) = [document for document in documents if document["kind"] == mistake.kind]
    *parents, last = mistake.path
    for key in parents:
        where = where[key]
    if mistake.value is NOTHING:
        del where[last]
    else:
        assert isinstance(where, list) or where.get(last) != mistake.value, "nothing would change"
        where[last] = mistake.value
    return yaml.safe_dump_all(documents)


@pytest.fixture(scope="module")
def rendered(ship: Path) -> Rendered:
    return render(KUBERNETES)


def test_all_that_is_shipped_passes_every_validator(ship: Path) -> None:
    result = make("ship-validate")
    assert result.returncode == 0, result.stderr
    assert len(re.findall("^✓ ", result.stdout, re.MULTILINE)) >= 7


def assert_all_caught(
    mistakes: list[Mistake], rendered: Rendered, check: Callable[[Rendered], list[Fault]], validator: str
) -> None:
    """Each mistake, as an overlay of its own, has the fault that it must have."""
    found = check({str(number): planted(rendered, mistake) for number, mistake in enumerate(mistakes)})
    for number, mistake in enumerate(mistakes):
        said = [fault.what for fault in found if (fault.validator, fault.where) == (validator, str(number))]
        assert any(mistake.said in what for what in said), (mistake, said)


def test_kubernetes_validate_catches_what_no_api_server_would_take(rendered: Rendered) -> None:
    mistakes = [
        Mistake("overlays/cpu", "Deployment", (*SERVER, "readynessProbe"), {}, "'readynessProbe' was unexpected"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "ports", 0, "containerPort"), "8080", "is not of type"),
        Mistake("overlays/gpu", "HorizontalPodAutoscaler", ("apiVersion",), "autoscaling/v2beta2", "find schema"),
        Mistake("overlays/dev", "NetworkPolicy", ("spec", "podSelector"), [], "is not of type"),
        Mistake("loader", "Pod", ("spec", "containers", 0, "name"), NOTHING, "'name' is a required property"),
    ]
    assert_all_caught(
        mistakes, rendered, lambda planted: check_schemas(planted, ship_validate.VERSIONS[-1:]), "kubernetes-validate"
    )


def test_the_types_catch_what_the_controllers_would_ignore_or_refuse(rendered: Rendered) -> None:
    predictor = ("spec", "predictor")
    mistakes = [
        Mistake("kserve", "InferenceService", (*predictor, "minReplica"), 1, "has no field minReplica"),
        Mistake("kserve", "InferenceService", (*predictor, "minReplicas"), "1", "'1' is not of type int"),
        Mistake("kserve", "InferenceService", (*predictor, "model", "modelFormat"), NOTHING, "must not be `None`"),
        Mistake(
            "kserve", "ServingRuntime", ("spec", "containers", 0, "image"), 1, "image: Input should be a valid string"
        ),
        Mistake(
            "kserve", "ServingRuntime", ("spec", "containers", 0, "volumeMounts", 0, "path"), "/", "path: Extra inputs"
        ),
        Mistake("overlays/cpu", "ServiceMonitor", ("spec", "endpoints", 0, "intervall"), "1s", "no field intervall"),
        Mistake("overlays/cpu", "ServiceMonitor", ("spec", "selector"), NOTHING, "Field required"),
    ]
    assert_all_caught(mistakes, rendered, check_custom_types, "custom types")


def test_checkov_catches_what_is_insecure(rendered: Rendered) -> None:
    mistakes = [
        Mistake("overlays/cpu", "Deployment", (*SERVER, "securityContext", "privileged"), True, "CKV_K8S_16"),
        Mistake("overlays/cpu", "Deployment", (*POD, "hostNetwork"), True, "CKV_K8S_19"),
        Mistake("overlays/dev", "Deployment", (*SERVER, "livenessProbe"), NOTHING, "CKV_K8S_8"),
        Mistake("overlays/dev", "Deployment", (*SERVER, "image"), "torchserve-image-classifier:latest", "CKV_K8S_14"),
    ]
    assert_all_caught(
        mistakes, rendered, lambda planted: check_security(planted, KUBERNETES / "checkov.yaml"), "checkov"
    )


def test_the_policy_catches_what_only_this_project_knows(rendered: Rendered) -> None:
    limits = (*SERVER, "resources", "limits")
    management = {"name": "management", "containerPort": 8081}
    mistakes = [
        Mistake("overlays/cpu", "Deployment", (*SERVER, "securityContext", "runAsNonRoot"), False, "may run as root"),
        Mistake("overlays/cpu", "Deployment", (*POD, "securityContext", "runAsUser"), 0, "may run as root"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "resources"), {}, "no limit of cpu"),
        Mistake("overlays/cpu", "Deployment", (*limits, "cpu"), "1500m", "whole cores"),
        Mistake("overlays/gpu", "Deployment", (*SERVER, "image"), "torchserve-image-classifier:latest", "is not the"),
        Mistake("overlays/gpu", "Deployment", (*SERVER, "image"), "torchserve-image-classifier:0.1.0", "has a GPU"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "readinessProbe"), NOTHING, "its readinessProbe"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "startupProbe", "failureThreshold"), 3, "gives up before"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "livenessProbe", "httpGet", "path"), "/ping", "livenessProbe"),
        Mistake("overlays/cpu", "Deployment", (*SERVER, "ports", 1), management, "are not those of config.properties"),
        Mistake("overlays/cpu", "Deployment", (*POD, "terminationGracePeriodSeconds"), 30, "do not fit"),
        Mistake("overlays/cpu", "Service", ("spec", "ports", 0, "port"), 80, "are not those of config.properties"),
        Mistake("overlays/cpu", "Service", ("spec", "selector"), {"app": "other"}, "selects no pod"),
        Mistake("overlays/cpu", "NetworkPolicy", ("spec", "ingress", 0, "ports", 0, "port"), 8081, "opens ports"),
        Mistake("overlays/cpu", "NetworkPolicy", ("spec", "ingress", 0, "from"), NOTHING, "to everybody"),
        Mistake("overlays/cpu", "NetworkPolicy", ("spec", "egress"), [{}], "call others"),
        Mistake("overlays/cpu", "PodDisruptionBudget", ("spec", "selector"), {}, "or all pods"),
        Mistake("overlays/cpu", "PodDisruptionBudget", ("kind",), "Other", "no PodDisruptionBudget"),
        Mistake("overlays/cpu", "ServiceMonitor", ("spec", "endpoints", 0, "port"), "8082", "not one of the Service's"),
        Mistake(
            "overlays/cpu",
            "HorizontalPodAutoscaler",
            ("spec", "metrics", 0, "pods", "metric", "name"),
            "requests_waiting",
            "no rule of prometheus-adapter",
        ),
        Mistake("kserve", "ServingRuntime", ("spec", "containers", 0, "startupProbe"), NOTHING, "its startupProbe"),
        Mistake("kserve", "InferenceService", ("spec", "predictor", "model", "runtime"), "other", "no container has"),
    ]
    assert_all_caught(mistakes, rendered, lambda planted: check_policy(planted, facts(CHECKOUT)), "policy")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the manifests to make mistakes in."""
    return Path(shutil.copytree(KUBERNETES, tmp_path / "kubernetes"))


def test_kustomize_refuses_an_overlay_without_its_parts(ship: Path, copied: Path) -> None:
    (copied / "base" / "service.yaml").unlink()
    with pytest.raises(UserError, match=r"(?s)cannot build .*overlays/cpu.*service\.yaml"):
        render(copied)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("/ 1e6", ""), ("rate(", "increase("), ("sum by (<<.GroupBy>>)", ""), ("queue_latency", "inference_latency")],
)
def test_promtool_catches_a_query_that_computes_something_else(copied: Path, right: str, wrong: str) -> None:
    path = copied / AUTOSCALING / "prometheus-adapter.yaml"
    path.write_text(path.read_text().replace(right, wrong))
    (fault,) = check_queries(copied)
    assert fault.validator == "promtool"
    assert "FAILED" in fault.what


def test_the_query_reads_series_that_a_real_server_has(client: Client, cat: bytes) -> None:
    assert post(client.addresses.inference, LITE0, cat).ok
    names = {name for query in adapter_queries(KUBERNETES).values() for name in re.findall(r"ts_\w+", query)}
    assert names == set(re.findall(r"^(ts_queue\w+)\{", client.metrics(), re.MULTILINE))


def test_the_check_of_configurations_catches_what_only_development_may_have() -> None:
    faults = check_configurations([CHECKOUT / "config.properties"])
    assert {fault.what.split(": ")[1] for fault in faults} == {"disable_token_authorization", "enable_model_api"}


def test_hadolint_and_compose_catch_what_is_wrong_with_their_files(ship: Path, tmp_path: Path) -> None:
    dockerfile, compose = tmp_path / "Dockerfile", tmp_path / "compose.yaml"
    dockerfile.write_text("FROM debian\nRUN cd /tmp && sudo true\n")
    found = [(fault.validator, fault.what.split()[1]) for fault in check_dockerfiles([dockerfile])]
    assert ("hadolint", "DL3006") in found
    assert ("hadolint", "DL3004") in found
    compose.write_text("services: {classifier: {image: a, portz: [8080]}}\n")
    (fault,) = check_compose([compose])
    assert (fault.validator, "portz" in fault.what) == ("docker compose", True)


def test_a_missing_tool_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship_validate, "TOOLS", tmp_path)
    with pytest.raises(UserError, match=r"kubectl is missing: `make ship-validate` installs it"):
        render(KUBERNETES)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"promtool is missing: `make setup-system`"):
        check_queries(KUBERNETES)
