"""What a running server is and does, for people: `make status`."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from scripts.console import out, warn
from scripts.serving.versions import show_versions
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.log import read_workers
from scripts.torchserve.server import CONSOLE_LOG, STATE_FOLDER, Server, running

if TYPE_CHECKING:
    from scripts.torchserve.client import Client

LOST: Final = "a worker's process has ended, but TorchServe counts it as READY: a bug in its StreamPredictions2"


def show(server: Server) -> None:
    """Print the addresses of a server, and how to ask it."""
    addresses = server.addresses
    out.print(f"  inference   {addresses.inference}   gRPC {addresses.grpc_inference}")
    out.print(f"  management  {addresses.management}   gRPC {addresses.grpc_management}")
    out.print(f"  metrics     {addresses.exporter or addresses.metrics}/metrics")
    if names := sorted(server.client().defaults()):  # those of now, which need not be those of the start
        name = server.models[0][0] if server.models and server.models[0][0] in names else names[0]
        token = "" if server.key_file is None else ' -H "Authorization: Bearer $(make -s token)"'
        out.print(f"  try         curl {addresses.inference}/predictions/{name} -T <picture>{token}")


def lost(client: "Client") -> set[int]:
    """The workers' processes that have ended although TorchServe calls them READY, and so does not restart them."""
    try:
        versions = client.versions()
    except RequestFailedError:  # the server is busy, or it ends, which is noticed elsewhere
        return set()
    return {pid for version in versions if version.ready for pid in version.pids if not psutil.pid_exists(pid)}


def main(*, state: Path = STATE_FOLDER) -> None:
    """Show addresses, versions and workers, and how often workers were restarted.

    Args:
        state: state folder of the server.
    """
    server = running(state)
    show(server)
    history = read_workers(state / CONSOLE_LOG)
    client = server.client()
    show_versions(client, state)
    for version in client.versions():
        for worker in history.of(version.name, version.version):
            if worker.restarts or worker.trouble:
                out.print(
                    f"  {version.name} {version.version}: {worker.name} restarted {worker.restarts} times; "
                    f"the last reason: {worker.reason}"
                )
    if lost(server.client()):
        warn(f"{LOST}\n`make stop` and `make serve`; or `make scale WORKERS=0 FORCE=1`, then with the old number.")
    if trouble := history.trouble:
        warn(f"{trouble}\nRun `make stop`, and repair the cause; meanwhile the server answers without that worker.")
