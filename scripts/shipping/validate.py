"""Validates all files that are shipped: `make ship-validate`.

Manifests are rendered as `kubectl apply -k` does, then checked against the schemas of each Kubernetes version, the
types of custom kinds, checkov and this project's own policy. Promtool computes the autoscaler's query on samples,
hadolint checks the Dockerfiles, Docker Compose its compose files, and the check for production the image's TorchServe
configuration. A missing tool is an error.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from classifier.cpu import usable_cores
from classifier.recipe import read_recipe

from scripts.console import UserError, done, err, step
from scripts.shipping.image import version
from scripts.shipping.policy import Facts, violations
from scripts.torchserve import config_check
from scripts.torchserve.config import addresses, read_config

TOOLS: Final = Path(".ship/bin")  # made by the Makefile, of the dependency group `ship`
OVERLAYS: Final = ("overlays/cpu", "overlays/gpu", "overlays/dev", "loader", "kserve")
VERSIONS: Final = ("1.34", "1.35", "1.36", "1.37")  # of Kubernetes; preStop's `sleep` is stable since 1.34
AUTOSCALING: Final = "components/autoscaling"

_CUSTOM_TYPES: Final = Path(__file__).with_name("types.py")
_CUSTOM_KINDS: Final = ("ServiceMonitor", "ServingRuntime", "InferenceService")  # the kinds that types.py knows
# Debian's archive keeps only one version of a package, so a build with pinned versions soon fails.
_HADOLINT_IGNORED: Final = ("DL3008",)

Rendered = dict[str, str]  # an overlay's name, and its documents as YAML


class Fault(NamedTuple):
    """One fault that a validator found in a file or overlay."""

    validator: str
    where: str
    what: str


def render(folder: Path) -> Rendered:
    """Render every overlay below `kubernetes/`, as `kubectl apply -k` would send it.

    Raises:
        UserError: kustomize cannot build an overlay.
    """
    rendered = {}
    for overlay in OVERLAYS:
        result = _run(tool("kubectl"), "kustomize", str(folder / overlay))
        if result.returncode != 0:
            raise UserError(f"kustomize cannot build {folder / overlay}: {result.stderr.strip()}")
        rendered[overlay] = result.stdout
    return rendered


def check_schemas(rendered: Rendered, versions: tuple[str, ...] = VERSIONS) -> list[Fault]:
    """Run kubernetes-validate --strict on the kinds of Kubernetes itself; unknown fields are faults."""
    found = set()
    with tempfile.TemporaryDirectory() as name:
        paths = _write(rendered, Path(name))
        for version in versions:
            result = _run(tool("kubernetes-validate"), "--strict", "--quiet", "-k", version, *map(str, paths))
            lines = result.stdout.splitlines() + result.stderr.splitlines()
            for line in lines:
                custom = line.startswith("WARN") and any(f"kind {kind} " in line for kind in _CUSTOM_KINDS)
                if line and not custom:
                    found.add(_fault("kubernetes-validate", line, paths))
            if result.returncode != 0 and not lines:
                found.add(Fault("kubernetes-validate", version, f"failed with exit code {result.returncode}"))
    return sorted(found)


def check_custom_types(rendered: Rendered) -> list[Fault]:
    """Check custom kinds against the types of KServe's SDK and models of the Prometheus operator."""
    with tempfile.TemporaryDirectory() as name:
        paths = _write(rendered, Path(name))
        # -P: a script's folder comes first on Python's path, and would hide the library's `types` behind this one
        result = _run(tool("python"), "-P", "-W", "ignore", str(_CUSTOM_TYPES), *map(str, paths))
        if result.returncode != 0:
            raise UserError(f"{_CUSTOM_TYPES.name} failed: {result.stderr[-2000:]}")
        return [_fault("custom types", line, paths) for line in result.stdout.splitlines()]


def check_security(rendered: Rendered, config: Path) -> list[Fault]:
    """Run checkov, with the skip list of `kubernetes/checkov.yaml`."""
    with tempfile.TemporaryDirectory() as name:
        paths = _write(rendered, Path(name))
        files = [argument for path in paths for argument in ("--file", str(path))]
        result = _run(tool("checkov"), "--config-file", str(config), *files)
        try:
            report = json.loads(result.stdout)
        except ValueError as error:
            raise UserError(f"checkov failed: {result.stdout[-1000:]}{result.stderr[-1000:]}") from error
        if "results" not in report:  # checkov's short report when it found nothing to check
            raise UserError(f"checkov checked nothing: {result.stdout[-1000:]}")
        names = {path.name: overlay for path, overlay in paths.items()}
        return [
            Fault(
                "checkov",
                names[Path(check["file_path"]).name],
                f"{check['resource']}: {check['check_name']} ({check['check_id']})",
            )
            for check in report["results"]["failed_checks"]
        ]


def check_policy(rendered: Rendered, facts: Facts) -> list[Fault]:
    """Check the policy of scripts/shipping/policy.py."""
    return [
        Fault("policy", overlay, text)
        for overlay, documents in rendered.items()
        for text in violations([document for document in yaml.safe_load_all(documents) if document], facts)
    ]


def check_queries(folder: Path) -> list[Fault]:
    """Run promtool: the adapter's queries, as in its file, must give the results in `samples.yaml`."""
    promtool = shutil.which("promtool")
    if promtool is None:
        raise UserError("promtool is missing: `make setup-system` installs it as root on Debian (package prometheus)")
    with tempfile.TemporaryDirectory() as name:
        rules = [{"record": metric, "expr": query} for metric, query in adapter_queries(folder).items()]
        groups = {"groups": [{"name": "adapter", "rules": rules}]}
        (Path(name) / "rules.yaml").write_text(yaml.safe_dump(groups))
        samples = yaml.safe_load((folder / AUTOSCALING / "samples.yaml").read_text())
        tests = Path(name) / "samples.yaml"
        tests.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **samples}))
        result = _run(promtool, "test", "rules", str(tests))
    said = f"{result.stdout}{result.stderr}".strip()
    return [] if result.returncode == 0 else [Fault("promtool", f"{AUTOSCALING}/samples.yaml", said)]


def adapter_queries(folder: Path) -> dict[str, str]:
    """The metrics that prometheus-adapter is configured to make, each with its query for all pods."""
    values = yaml.safe_load((folder / AUTOSCALING / "prometheus-adapter.yaml").read_text())
    return {
        rule["name"]["as"]: rule["metricsQuery"]
        .replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        .replace("<<.LabelMatchers>>", rule["seriesQuery"].partition("{")[2].removesuffix("}"))
        .replace("<<.GroupBy>>", ", ".join(rule["resources"]["overrides"]))
        for rule in values["rules"]["custom"]
    }


def check_dockerfiles(paths: list[Path]) -> list[Fault]:
    """Run hadolint."""
    found = []
    for path in paths:
        ignored = [argument for rule in _HADOLINT_IGNORED for argument in ("--ignore", rule)]
        result = _run(tool("hadolint"), "--no-color", *ignored, str(path))
        found += [Fault("hadolint", str(path), line) for line in (result.stdout + result.stderr).splitlines()]
    return found


def check_compose(paths: list[Path]) -> list[Fault]:
    """Run `docker compose config`, with every profile."""
    found = []
    for path in paths:
        result = _run(tool("docker-compose"), "--profile", "*", "--file", str(path), "config", "--quiet")
        if result.returncode != 0:
            found.append(Fault("docker compose", str(path), result.stderr.strip()))
    return found


def check_configurations(paths: list[Path]) -> list[Fault]:
    """Run the check of `make check-config PRODUCTION=1`."""
    return [
        Fault("check-config", str(path), f"{finding.level}: {finding.setting}: {finding.text}")
        for path in paths
        for _, finding in config_check.check(path, usable_cores())
        if config_check.verdict([finding], production=True)
    ]


def facts(project: Path) -> Facts:
    """The facts that the manifests must agree with, each from the file that defines it."""
    dockerfile = (project / "docker" / "Dockerfile").read_text()
    (user,), (state,) = (re.findall(rf"^{word} ([^\s:]+)", dockerfile, re.MULTILINE) for word in ("USER", "WORKDIR"))
    recipes = [read_recipe(path) for path in (project / "recipes").glob("*.yaml")]
    return Facts(
        version=version(),
        ports=addresses(read_config(project / "config.properties")).ports(),
        startup_s=max(recipe.serving.startup_timeout_s for recipe in recipes),
        metrics=frozenset(adapter_queries(project / "kubernetes")),
        user=int(user),
        state=state,
    )


def tool(name: str) -> str:
    """A program of the environment of shipping tools.

    Raises:
        UserError: the program is not installed.
    """
    path = TOOLS / name
    if not path.exists():
        raise UserError(f"{path} is missing: `make ship-validate` installs it")
    return str(path.absolute())


def validate(project: Path) -> list[Fault]:
    """Run every validator on all files that are shipped, and print which of them found no fault."""
    manifests, docker = project / "kubernetes", project / "docker"
    dockerfiles, compose = sorted(docker.glob("Dockerfile*")), sorted(docker.glob("compose*.yaml"))
    step(f"rendering {', '.join(OVERLAYS)}")
    rendered = render(manifests)
    known = facts(project)
    checks: dict[str, Callable[[], list[Fault]]] = {
        f"kubernetes-validate --strict, {', '.join(VERSIONS)}": lambda: check_schemas(rendered),
        f"types of {', '.join(_CUSTOM_KINDS)}": lambda: check_custom_types(rendered),
        "checkov": lambda: check_security(rendered, manifests / "checkov.yaml"),
        "policy": lambda: check_policy(rendered, known),
        "promtool": lambda: check_queries(manifests),
        f"hadolint, {len(dockerfiles)} files": lambda: check_dockerfiles(dockerfiles),
        f"docker compose config, {len(compose)} files": lambda: check_compose(compose),
        "check-config PRODUCTION=1": lambda: check_configurations([docker / "config.properties"]),
    }
    found = []
    for name, check in checks.items():
        faults = check()
        found += faults
        if not faults:
            done(name)
    return found


def _write(rendered: Rendered, folder: Path) -> dict[Path, str]:
    """Write each overlay into a file of its own, for tools that read files; returns the overlay of each file."""
    paths = {folder / f"{overlay.replace('/', '-')}.yaml": overlay for overlay in rendered}
    for path, overlay in paths.items():
        path.write_text(rendered[overlay])
    return paths


def _fault(validator: str, line: str, paths: dict[Path, str]) -> Fault:
    """A fault from a line of a tool's output, with the overlay instead of the file that it names."""
    path = next((path for path in paths if str(path) in line), None)
    if path is None:
        return Fault(validator, "", line)
    return Fault(validator, paths[path], line.replace(f"{path}: ", "").replace(str(path), paths[path]))


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def main() -> None:
    """Validate manifests, Dockerfiles and compose files; list the faults."""
    faults = validate(Path())
    for fault in faults:
        err.print(f"{fault.validator}: {fault.where}: {fault.what}", markup=False)
    if faults:
        raise UserError(f"{len(faults)} faults in the files that are shipped; each line above says where")
