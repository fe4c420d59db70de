"""A container image and what runs of it, for the tests of both the image and compose."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.integration.contract import LITE0

ARCHIVE = f"{LITE0}-openvino-int8"
READY_DEADLINE_S = 120

Podman = Callable[..., subprocess.CompletedProcess[str]]


class Container:
    """A running container, as hardened as the README says."""

    def __init__(self, podman: Podman, image: str, *options: str, command: tuple[str, ...] = ()) -> None:
        from scripts.building.golden import photograph  # imports torch

        hardened = ["--read-only", "--tmpfs=/var/lib/classifier", "--tmpfs=/tmp", "--cap-drop=ALL", "--network=none"]
        hardened += ["--security-opt=no-new-privileges", "--memory=3g", f"--env=MODELS={ARCHIVE}"]
        hardened += [f"--volume={photograph('chelsea.png').parent}:/pictures:ro"]
        started = podman("run", "--detach", *hardened, *options, image, *command)
        assert started.returncode == 0, started.stderr
        self.name, self._podman = started.stdout.strip(), podman

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._podman("exec", self.name, *command)

    def python(self, program: str) -> Any:
        """Run a program inside, with the image's own Python; what it prints, as JSON."""
        result = self.exec("/usr/bin/python3", "-c", program)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def inspect(self, template: str) -> str:
        return self._podman("inspect", "--format", template, self.name).stdout.strip()

    def logs(self) -> str:
        result = self._podman("logs", self.name)
        return result.stdout + result.stderr

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while self._podman("healthcheck", "run", self.name).returncode != 0:
            assert self.inspect("{{.State.Status}}") == "running", self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.5)

    def wait_ended(self) -> int:
        return int(self._podman("wait", self.name).stdout)

    def remove(self) -> None:
        self._podman("rm", "--force", "--time=0", self.name)
