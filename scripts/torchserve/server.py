"""One TorchServe on this machine: starts it, finds it again, stops it.

The state folder of a server has all that is needed to find it: server.json, which is written before TorchServe begins,
its configuration, and its logs. Unpacked archives and sockets lie in a folder of their own below the system's temp
folder, because the path of a socket must be short.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psutil

from scripts.archives.runtimes import require_runtime
from scripts.archives.store import Archive
from scripts.console import UserError, tail, uninterrupted
from scripts.ports import check_ports
from scripts.torchserve import launch
from scripts.torchserve.command import CONFIG, Command, Start, java, refuse_elsewhere
from scripts.torchserve.config import Addresses, addresses, asks_for_tokens, certificate, write_config
from scripts.torchserve.failures import RequestFailedError
from scripts.torchserve.java import find_java_home
from scripts.torchserve.log import failure

if TYPE_CHECKING:
    from scripts.torchserve.client import Client

STATE_FOLDER: Final = Path(".torchserve")
LOG_CONFIG: Final = Path(__file__).with_name("log4j2.xml")
JIT_CONFIG: Final = Path(__file__).with_name("jit.json")  # config.properties names it
LOGS: Final = Path("logs")  # below the state folder
CONSOLE_LOG: Final = LOGS / "console.log"
ANSWERS_LOG: Final = LOGS / "answers.log"  # for the exporter; log4j2.xml says what is in it
METRICS: Final = Path("metrics")  # below the state folder: what the workers count
SNAPSHOTS: Final = LOGS / "config"  # where TorchServe writes them
_RECORD: Final = "server.json"
ANSWERS: Final = "answers"  # its content is the form that this folder's servers answer in, if it is not the recipes'
PUBLIC_KEY: Final = "public_key"  # its content is the path of the key, or of the folder of keys, that sign archives
_KEY_FILE: Final = "key_file.json"  # in the folder that TorchServe is started in

_READY_DEADLINE_S: Final = 300
_STOP_DEADLINE_S: Final = 20
LOG_GRACE_S: Final = 0.5  # the last output of a worker reaches the log a moment after the message that it died

# The servers that this process itself started. It must collect their exit codes, or they remain as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running server, as written to server.json."""

    pid: int  # of the process that leads the server's process group: Java, or TorchServe's own launcher
    created: float  # start time of that process, so that another process with a reused pid is not taken for it
    addresses: Addresses
    temporary: str  # folder
    models: list[tuple[str, str]]  # name and version of each model that it was started with
    key_file: str | None = None  # see `key_path`
    certificate: str | None = None  # the file that its TLS certificate is checked with

    def client(self, **options: Any) -> "Client":
        """A client of this server; the options are those of `Client`."""
        from scripts.torchserve.client import Client  # imports requests, which takes until Java has started

        return Client(self.addresses, key_file=self.key_path, certificate=self.certificate, **options)

    @property
    def key_path(self) -> Path | None:
        """The file that the server writes its tokens to, if it asks for tokens."""
        return None if self.key_file is None else Path(self.key_file)


def find(state: Path) -> Server | None:
    """The server that runs from this state folder; None if there is none."""
    server = _recorded(state)
    return server if server is not None and _processes(server) else None


def _recorded(state: Path) -> Server | None:
    """The server that was last started from this state folder, unless it was stopped."""
    path = state / _RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Server)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise UserError(f"{path} is damaged ({error}); stop its server if it runs, and remove the file") from error


def running(state: Path) -> Server:
    """The server that runs from this state folder.

    Raises:
        UserError: there is none.
    """
    server = find(state)
    if server is None:
        raise UserError("no server is running; start one with `make serve`")
    return server


def refuse_a_second(state: Path) -> None:
    """Raise a UserError if a server runs from this state folder already."""
    if server := find(state):
        raise UserError(f"a server is running already at {server.addresses.inference}; `make stop` ends it")


def start(
    config: dict[str, str],
    archives: list[Archive],
    state: Path,
    log_config: Path | None = LOG_CONFIG,
    *,
    command: Command = java,
    public_key: Path | None = None,
    variables: launch.Variables | None = None,
) -> Server:
    """Start TorchServe in the background, in a process group of its own; `wait_ready` waits until it is ready.

    Args:
        config: the settings of its config.properties; model_store must be absolute.
        archives: the archives to load; those that `config` names in a `model_snapshot` must be among them.
        state: folder for all that the server writes.
        log_config: a log4j configuration; None for TorchServe's own, which logs more.
        command: the command line, for a server that is not started as this project starts one.
        public_key: the key that signs archives; `make register` and later servers of that folder check with it too.
        variables: what its processes are told besides; default: nothing.

    Raises:
        UserError: a server already runs from that folder, a port is taken, Java or a runtime is missing, or an archive
            lies elsewhere.
    """
    java_home = _checked(config, archives, state)
    _clean(state)
    _write_files(config, state)
    if public_key is not None:
        (state / PUBLIC_KEY).write_text(str(public_key.resolve()))
    with (
        launch.temporary_folder() as temporary,
        launch.held(
            command(Start(config, archives, java_home, temporary, log_config)),
            launch.environment(os.environ, java_home, temporary, state / LOGS, variables or launch.Variables()),
            state,
            state / CONSOLE_LOG,
        ) as process,
    ):
        server = Server(
            pid=process.pid,
            created=psutil.Process(process.pid).create_time(),
            addresses=addresses(config),
            temporary=str(temporary),
            models=[(archive.identity.model.name, archive.identity.model.version) for archive in archives],
            key_file=_key_file(config, state),
            certificate=certificate(config),
        )
        record(server, state)
    _children[process.pid] = process
    return server


def remembered_key(state: Path) -> Path | None:
    """The key that signs this state folder's archives. It outlives the server: a restart must not drop the check."""
    path = state / PUBLIC_KEY
    return Path(path.read_text()) if path.exists() else None


def _checked(config: dict[str, str], archives: list[Archive], state: Path) -> Path:
    """The JAVA_HOME of a server, after a check that it can be started."""
    refuse_a_second(state)
    check_ports(addresses(config).ports(), "change config.properties, or use PORTS=free")
    refuse_elsewhere(archives, Path(config["model_store"]))
    for archive in archives:
        require_runtime(archive.identity)
    return find_java_home()


def _key_file(config: dict[str, str], state: Path) -> str | None:
    return str(state.resolve() / _KEY_FILE) if asks_for_tokens(config) else None


def record(server: Server, state: Path) -> None:
    """Record a server for `find`, in one step: a reader sees the last record or this one, never half of a file."""
    part = state / f".{_RECORD}.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(server)))
    part.replace(state / _RECORD)


def _write_files(config: dict[str, str], state: Path) -> None:
    """Prepare the state folder for a start: its configuration, no log yet, a key file without tokens."""
    (state / CONSOLE_LOG).parent.mkdir(parents=True, exist_ok=True)
    for last in (state / CONSOLE_LOG, state / _KEY_FILE, *(state / LOGS).glob("answers*.log")):
        last.unlink(missing_ok=True)
    shutil.rmtree(state / METRICS, ignore_errors=True)
    write_config(config, state / CONFIG)
    shutil.copy(JIT_CONFIG, state)
    (state / _KEY_FILE).touch(0o600)  # TorchServe would create it readable by all, and correct that only afterwards


def wait_ready(server: Server, state: Path, idle: Collection[tuple[str, str]] = ()) -> None:
    """Wait until every worker of every model is READY, but for the versions `idle`, which are to have no workers.

    Raises:
        UserError: the server ended, refuses the environment's token, or a model cannot be loaded; the message quotes
            the log.
    """
    log = state / CONSOLE_LOG

    def check() -> None:
        if not _processes(server):
            raise UserError(f"TorchServe ended while starting; the end of {log}:\n{tail(log, 15)}")
        if failure(log.read_text(errors="replace")):
            time.sleep(LOG_GRACE_S)
            raise UserError(f"{failure(log.read_text(errors='replace'))}\nThe whole log: {log}")

    client = server.client(connect_retries=0)
    try:
        client.wait_ready([item for item in server.models if item not in idle], _READY_DEADLINE_S, check)
    except TimeoutError as error:
        raise UserError(f"{error}; see {log}") from error
    except RequestFailedError as error:
        raise UserError(str(error)) from error


@contextmanager
def serving(
    config: dict[str, str], archives: list[Archive], state: Path, log_config: Path | None = LOG_CONFIG, **options: Any
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it at the end; arguments and errors as of `start`."""
    try:
        server = start(config, archives, state, log_config, **options)
        wait_ready(server, state)
        yield server
    finally:
        stop(state)


@uninterrupted()
def stop(state: Path) -> bool:
    """Stop the server of this state folder, uninterrupted, and remove its files. False if none was running."""
    server = find(state)
    if server is not None:
        processes = _processes(server)
        front_ends = [process for process in processes if process.name() == "java"]
        for process in front_ends:  # Java ends its workers
            process.terminate()
        if processes and not front_ends:  # Java has not started yet, or starts at this moment, and then is in the group
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=_STOP_DEADLINE_S)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_STOP_DEADLINE_S)
    _clean(state)
    return server is not None


def _processes(server: Server) -> list[psutil.Process]:
    """The first process and all its descendants; none if that one is gone, or another process has its pid by now."""
    if (child := _children.get(server.pid)) is not None and child.poll() is not None:
        return []
    try:
        first = psutil.Process(server.pid)
        if first.create_time() != server.created or first.status() == psutil.STATUS_ZOMBIE:
            return []
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _clean(state: Path) -> None:
    """Remove the files of a server that has ended or was killed. Logs and snapshots stay."""
    if (server := _recorded(state)) is not None:
        if child := _children.pop(server.pid, None):
            child.wait(_STOP_DEADLINE_S)
        launch.remove_temporary(Path(server.temporary))
        (state / _RECORD).unlink()


def workers(server: Server) -> list[psutil.Process]:
    """The processes of a server's live workers, oldest first."""
    found = [child for child in _processes(server) if any("model_service_worker" in word for word in _command(child))]
    return sorted(found, key=lambda process: process.create_time())


def front_end(server: Server) -> psutil.Process:
    """The process of a server's front end, Java."""
    return next(process for process in _processes(server) if process.name() == "java")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
