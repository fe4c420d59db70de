"""Simulates machines: network namespaces with addresses of their own, on a bridge. Needs Linux, root and iproute2."""

import ipaddress
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, NamedTuple

from scripts.console import UserError

_SUBNETS: Final = [ipaddress.IPv4Network(f"10.213.{number}.0/24") for number in range(256)]


class Machine(NamedTuple):
    """One network namespace with its cable to the bridge."""

    name: str  # of the namespace
    address: str
    plug: str  # the end of the cable at the bridge
    bridge: str

    def command(self, *arguments: str) -> list[str]:
        """The command that runs these arguments on the machine."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def unplug(self) -> None:
        """Pull the cable out of the bridge: packets in both directions are lost, and no sender gets an error."""
        _ip("link", "set", self.plug, "nomaster")

    def plug_in(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self.plug, "master", self.bridge)

    @contextmanager
    def behind_a_slow_line(self, rate: str) -> Iterator[None]:
        """Limit the rate of bytes to the machine, for example to `8mbit`.

        Raises:
            UserError: this kernel has no token bucket filter.
        """
        _call("tc", "qdisc", "add", "dev", self.plug, "root", "tbf", "rate", rate, "burst", "32kb", "latency", "1s")
        try:
            yield
        finally:
            _call("tc", "qdisc", "del", "dev", self.plug, "root")


def require_namespaces() -> None:
    """Raise a UserError if this is not root, or without iproute2: best before minutes of building."""
    if os.geteuid() != 0:
        raise UserError("network namespaces need root: `sudo make scale-out`")
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            raise UserError(
                f"network namespaces need {program} of iproute2; `make setup-system` installs it, or says how"
            )


@contextmanager
def network(machines: int) -> Iterator[list[Machine]]:
    """Make machines that this one reaches over a bridge; they and their processes are removed at the end.

    Raises:
        UserError: this is not root, iproute2 is missing, or no subnet is free.
    """
    require_namespaces()
    with ExitStack() as stack:
        bridge, subnet = _bridge(stack)
        hosts = subnet.hosts()
        _ip("address", "add", f"{next(hosts)}/{subnet.prefixlen}", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield [
            _machine(stack, Machine(f"{bridge}-{number}", str(address), f"{bridge}-{number}", bridge), subnet)
            for number, address in zip(range(1, machines + 1), hosts, strict=False)
        ]


def _bridge(stack: ExitStack) -> tuple[str, ipaddress.IPv4Network]:
    """Make a bridge with an unused subnet. Its name contains the subnet, so two runs at once never take the same."""
    taken = [
        ipaddress.IPv4Network(route["dst"]) for route in _read("route", "show", "table", "all") if "." in route["dst"]
    ]
    for subnet in _SUBNETS:
        if any(subnet.overlaps(other) for other in taken if other.prefixlen > 0):
            continue
        name = f"scale{subnet.network_address.packed[2]}"
        try:
            _ip("link", "add", name, "type", "bridge")
        except UserError:  # another run was faster
            continue
        stack.callback(_ip, "link", "delete", name)
        return name, subnet
    raise UserError("no subnet of 10.213.0.0/16 is free; `ip route` shows their routes")


def _machine(stack: ExitStack, machine: Machine, subnet: ipaddress.IPv4Network) -> Machine:
    _ip("netns", "add", machine.name)
    stack.callback(_remove, machine)
    _ip("link", "add", machine.plug, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    inside = ("-n", machine.name)
    _ip(*inside, "address", "add", f"{machine.address}/{subnet.prefixlen}", "dev", "eth0")
    for link in ("lo", "eth0"):
        _ip(*inside, "link", "set", link, "up")
    _ip("link", "set", machine.plug, "master", machine.bridge, "up")
    return machine


def _remove(machine: Machine) -> None:
    for pid in _call("ip", "netns", "pids", machine.name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    with suppress(UserError):  # the cable was not made yet
        _ip("link", "delete", machine.plug)
    _ip("netns", "delete", machine.name)


def _read(*arguments: str) -> Any:
    return json.loads(_call("ip", "-json", *arguments) or "[]")


def _ip(*arguments: str) -> None:
    _call("ip", *arguments)


def _call(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise UserError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
