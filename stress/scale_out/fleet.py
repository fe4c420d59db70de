"""TorchServe replicas, each on a machine of its own, controlled by the same commands as by hand: `make serve` etc."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from classifier.recipe import Recipe

from gateway.__main__ import gateway
from gateway.endpoints import Gateway, Replica
from scripts.archives.store import Archive
from scripts.console import UserError
from scripts.torchserve.config import CONFIG_FILE, addresses, read_config, write_config
from scripts.torchserve.server import CONSOLE_LOG, running, stop
from stress.questions import Body
from stress.scale_out.network import Machine, network

_STOP_DEADLINE_S: Final = 20


class TorchServe:
    """One replica. Other machines reach only its inference port; it is managed from its own machine."""

    def __init__(self, machine: Machine, store: Path, folder: Path) -> None:
        """Args: store: folder of the archives. folder: for all that the replica writes."""
        self.machine = machine
        self.state = folder / machine.name
        self._store = store.resolve()
        self._config = folder / f"{machine.name}.properties"
        config = read_config(CONFIG_FILE)
        port = addresses(config).ports()["inference"]
        self.replica = Replica(machine.address, port)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(config | {"inference_address": f"http://{self.replica}"}, self._config)

    def start(self, archive: Archive) -> None:
        """Start the replica with an archive and wait until every worker is READY.

        Raises:
            UserError: the replica does not start; the message has the reason.
        """
        folders = (f"--config={self._config}", f"--store={self._store}")
        self.run("serve", *folders, f"--models={archive.path.name}")

    def stop(self) -> None:
        """Stop the replica, if it runs, and remove its temporary files."""
        stop(self.state)

    def kill(self) -> float:
        """Send SIGKILL to the front end and its workers, all at once; returns the time by the monotonic clock."""
        group = running(self.state).pid
        members = [process for process in psutil.process_iter() if _group(process) == group]
        os.killpg(group, signal.SIGKILL)
        killed = time.monotonic()
        psutil.wait_procs(members, timeout=_STOP_DEADLINE_S)
        self.stop()  # only its temporary files are left
        return killed

    def update(self, old: Archive, new: Archive) -> None:
        """Replace a version by another: register, make it the default, unregister.

        Raises:
            UserError: a step failed; the message has the reason.
        """
        self.run("register", f"--archive={self._store / new.path.name}")
        self.run("default", f"--model={new.identity.model.name}", f"--version={new.identity.model.version}")
        self.run("unregister", f"--model={old.identity.model.name}", f"--version={old.identity.model.version}")

    def run(self, verb: str, *options: str) -> None:
        """Run one of the program's verbs on the replica's machine, for the replica's state folder.

        Raises:
            UserError: the verb failed; the message has the reason.
        """
        command = [sys.executable, "-m", "scripts.command_line", verb, f"--state={self.state}", *options]
        result = subprocess.run(self.machine.command(*command), capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise UserError(f"{self.machine.name}: {result.stderr.strip()}; its log: {self.state / CONSOLE_LOG}")


class Fleet(NamedTuple):
    """Replicas behind a gateway."""

    servers: list[TorchServe]
    gateway: Gateway
    model: str
    folder: Path
    questions: list[Body]

    @property
    def url(self) -> str:
        """The address for users."""
        return f"{self.gateway.address}/predictions/{self.model}"


@contextmanager
def fleet(number: int, archive: Archive, recipe: Recipe, folder: Path, picture: Path) -> Iterator[Fleet]:
    """Run replicas of an archive behind a gateway, all ready; all of it is removed at the end.

    Args:
        number: how many replicas.
        archive: what each of them serves.
        recipe: the recipe of the archive, for the gateway's limits.
        folder: folder for all that they write.
        picture: what clients send.

    Raises:
        UserError: this is not root, or a part does not start.
    """
    with network(number) as machines, ExitStack() as stack, ThreadPoolExecutor() as pool:
        servers = [TorchServe(machine, archive.path.parent, folder) for machine in machines]
        for server in servers:
            stack.callback(server.stop)
        for started in [pool.submit(server.start, archive) for server in servers]:
            started.result()
        model = archive.identity.model.name
        entrance = gateway(model, recipe, [server.replica for server in servers], folder / "gateway")
        questions = [Body(picture.name, picture.read_bytes(), 200)]
        yield Fleet(servers, stack.enter_context(entrance), model, folder, questions)


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return 0
