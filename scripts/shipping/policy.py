"""The project's own rules for its manifests, which no schema has: pure functions over rendered documents.

They compare the manifests with the files that define each fact: ports with config.properties, the image's tag with
pyproject.toml, its user and folder with the Dockerfile, the time to start with the recipes, the autoscaler's metric
with the adapter's rules.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from scripts.shipping.image import NAME as IMAGE

Document = dict[str, Any]

_READY: Final = ["/opt/classifier/bin/ready"]
_STOP_S: Final = 20  # the longest time that TorchServe and its workers need to end


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that manifests must agree with."""

    version: str  # of the project
    ports: dict[str, int]  # by the names of scripts.torchserve.config.Addresses
    startup_s: int  # how long a model may take to load
    metrics: frozenset[str]  # the metrics that the autoscaler can use
    user: int  # of the image
    state: str  # the folder that the image writes to, besides /tmp

    @property
    def open_ports(self) -> dict[str, int]:
        """The ports that a client may reach, as the manifests name them."""
        return {
            "http": self.ports["inference"],
            "metrics": self.ports["metrics"],
            "exporter": self.ports["exporter"],
            "grpc": self.ports["grpc_inference"],
        }


def violations(documents: list[Document], facts: Facts) -> list[str]:
    """The faults of the manifests of one overlay, in sentences that name the place."""
    found = [text for name, pod in pods(documents) for text in _pod(name, pod, facts)]
    for document in documents:
        if check := _CHECKS.get(document["kind"]):
            found += check(document, documents, facts)
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """The pod of each workload, by name. KServe makes one from an InferenceService and the runtime that it names."""
    runtimes = {_name(document): document["spec"] for document in _of_kind(documents, "ServingRuntime")}
    for document in documents:
        spec = document.get("spec", {})
        match document["kind"]:
            case "Deployment":
                yield _name(document), spec["template"]["spec"]
            case "Pod":
                yield _name(document), spec
            case "InferenceService":
                runtime = runtimes.get(spec["predictor"]["model"].get("runtime"), {"containers": []})
                yield _name(document), runtime | spec["predictor"]


def _pod(name: str, pod: Document, facts: Facts) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{name}: the token of its service account is mounted"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")) or any(
        "hostPath" in volume for volume in pod.get("volumes", [])
    ):
        yield f"{name}: it uses namespaces or files of its host"
    servers = [container for container in pod["containers"] if container.get("ports")]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        where = f"{name}, container {container['name']}"
        yield from _security(where, context | container.get("securityContext", {}), facts)
        yield from _resources(where, container)
        yield from _image(where, container, facts)
    for container in servers:
        where = f"{name}, container {container['name']}"
        yield from _server(where, container, pod, facts)
    if not servers and pod.get("restartPolicy") != "Never":
        yield f"{name}: no container has a port"


def _security(where: str, context: Document, facts: Facts) -> Iterator[str]:
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") != facts.user:
        yield f"{where}: may run as root, or not as user {facts.user}"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{where}: may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{where}: its root file system is writable"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{where}: keeps capabilities"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: has no seccomp profile"


def _resources(where: str, container: Document) -> Iterator[str]:
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    if lacking := {"cpu", "memory", "ephemeral-storage"} - limits.keys():
        yield f"{where}: no limit of {', '.join(sorted(lacking))}"
    if limits != requests:
        yield f"{where}: requests differ from limits"
    if container.get("ports") and not str(limits.get("cpu")).isdecimal():
        yield f"{where}: its CPU limit is not a number of whole cores, which its threads are"


def _image(where: str, container: Document, facts: Facts) -> Iterator[str]:
    repository, _, tag = container["image"].rpartition(":")
    gpu = "nvidia.com/gpu" in container.get("resources", {}).get("limits", {})
    if repository.rpartition("/")[2] != IMAGE:
        yield f"{where}: {container['image']} is not an image of this project"
    elif tag not in (facts.version, f"{facts.version}-gpu"):
        yield f"{where}: the tag of {container['image']} is not the project's version, {facts.version}"
    elif gpu and not tag.endswith("-gpu"):
        yield f"{where}: has a GPU, but {container['image']} cannot use it"


def _server(where: str, container: Document, pod: Document, facts: Facts) -> Iterator[str]:
    numbers = {port["containerPort"] for port in container["ports"]}
    named = {port["name"]: port["containerPort"] for port in container["ports"] if port["name"] in facts.open_ports}
    if any(facts.open_ports[name] != number for name, number in named.items()) or not numbers <= set(
        facts.open_ports.values()
    ):
        yield f"{where}: its ports {sorted(numbers)} are not those of config.properties"
    for probe in ("startupProbe", "readinessProbe"):
        if container.get(probe, {}).get("exec", {}).get("command") != _READY:
            yield f"{where}: its {probe} does not ask {_READY[0]}"
    startup = container.get("startupProbe", {})
    if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) <= facts.startup_s:
        yield f"{where}: its startupProbe gives up before a model may have loaded, in {facts.startup_s} s"
    liveness = container.get("livenessProbe", {}).get("httpGet", {})
    if (liveness.get("path"), liveness.get("port")) not in {
        ("/metrics", "metrics"),
        ("/metrics", facts.ports["metrics"]),
    }:
        yield f"{where}: its livenessProbe does not ask the front end's metrics page"
    drain = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if drain < 1 or pod.get("terminationGracePeriodSeconds", 30) < drain + _STOP_S:
        yield f"{where}: a drain of {drain} s and the {_STOP_S} s to stop do not fit into its grace period"
    writable = {mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")}
    if writable != {"/tmp", facts.state}:  # noqa: S108 - the server's own
        yield f"{where}: {', '.join(sorted(writable))} are writable instead of /tmp and {facts.state}"


def _deployment(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        if not _of_kind(documents, kind):
            yield f"Deployment {_name(document)}: there is no {kind} beside it"


def _service(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    if {port["name"]: port["port"] for port in document["spec"]["ports"]} != facts.open_ports:
        yield f"Service {_name(document)}: its ports are not those of config.properties"
    yield from _selects(document, document["spec"]["selector"], documents)


def _disruption_budget(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    yield from _selects(document, document["spec"]["selector"].get("matchLabels", {}), documents)


def _autoscaler(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    name, spec = _name(document), document["spec"]
    if spec["scaleTargetRef"]["name"] not in {_name(other) for other in _of_kind(documents, "Deployment")}:
        yield f"HorizontalPodAutoscaler {name}: its target is not here"
    for metric in spec["metrics"]:
        if metric.get("pods", {}).get("metric", {}).get("name") not in facts.metrics:
            yield f"HorizontalPodAutoscaler {name}: no rule of prometheus-adapter makes its metric"


def _monitor(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    names = {port["name"] for service in _of_kind(documents, "Service") for port in service["spec"]["ports"]}
    if not {endpoint["port"] for endpoint in document["spec"]["endpoints"]} <= names:
        yield f"ServiceMonitor {_name(document)}: its port is not one of the Service's"


def _network_policy(document: Document, documents: list[Document], facts: Facts) -> Iterator[str]:
    name, spec = _name(document), document["spec"]
    if sorted(spec["policyTypes"]) != ["Egress", "Ingress"] or spec.get("egress"):
        yield f"NetworkPolicy {name}: lets the server call others"
    for rule in spec.get("ingress", []):
        numbers = {port["port"] for port in rule.get("ports", [])}
        if not numbers or not numbers <= set(facts.open_ports.values()):
            yield f"NetworkPolicy {name}: opens ports besides {sorted(facts.open_ports.values())}"
        if not rule.get("from"):
            yield f"NetworkPolicy {name}: opens {sorted(numbers)} to everybody"


_CHECKS: Final[dict[str, Callable[[Document, list[Document], Facts], Iterator[str]]]] = {
    "Deployment": _deployment,
    "Service": _service,
    "PodDisruptionBudget": _disruption_budget,
    "HorizontalPodAutoscaler": _autoscaler,
    "ServiceMonitor": _monitor,
    "NetworkPolicy": _network_policy,
}


def _selects(document: Document, labels: dict[str, str], documents: list[Document]) -> Iterator[str]:
    templates = [deployment["spec"]["template"] for deployment in _of_kind(documents, "Deployment")]
    if not labels or not any(labels.items() <= template["metadata"]["labels"].items() for template in templates):
        yield f"{document['kind']} {_name(document)}: selects no pod of the Deployment, or all pods"


def _of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def _name(document: Document) -> str:
    name: str = document["metadata"]["name"]
    return name
