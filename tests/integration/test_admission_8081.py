"""Forged and unsigned archives: what a real TorchServe would do with them, and that it never gets to see them."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from classifier.digests import verify

from scripts.archives.format import zip_entry
from scripts.archives.store import signature_of
from scripts.torchserve.client import Client
from scripts.torchserve.server import Server, find
from tests.integration.conftest import STORE, make, serving
from tests.integration.contract import LITE0
from tests.unit.conftest import contents
from tests.unit.forgery import Files, proven, with_file, with_tar_file, write_zip

EAGER, TORCHSCRIPT = f"{LITE0}-eager-1.0.mar", f"{LITE0}-torchscript-2.0.mar"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store of this module's own, of archives that nobody signed."""
    folder = tmp_path_factory.mktemp("store")
    for name in (EAGER, TORCHSCRIPT):
        shutil.copy(STORE / name, folder)
    return folder


@pytest.fixture(scope="module")
def files(store: Path) -> Files:
    return contents(store / EAGER)


def only_java_sees(name: str, content: bytes, path: Path, files: Files) -> None:
    """An archive with a file in front that its directory does not name, and with right digests of all others."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zip_entry(name, len(content)), content)
        for other, there in files.items():
            packed.writestr(zip_entry(other, len(there)), there)
        del packed.infolist()[0]


def test_what_torchserve_itself_does_with_forged_archives(files: Files, tmp_path: Path) -> None:
    """It lets nothing out of its folder, but runs what Python's reader, and so our digests, never saw."""
    store, state, escaped, ran = (tmp_path / name for name in ("store", "state", "escaped", "ran"))
    store.mkdir()
    write_zip(store / EAGER, files)
    out = "../" * 12 + str(escaped).lstrip("/")
    with_file(out)(store / "slip.mar", files)
    with_tar_file(f"{LITE0}/{out}")(store / "slip.tar.gz", files)
    code = f"open({str(ran)!r}, 'w').close()\nraise ImportError('forged')\n".encode()
    only_java_sees("numpy.py", code, store / "hidden.mar", files)
    verify(store / "hidden.mar")  # that is why digests are not enough
    with serving(state, LITE0, store=store) as server:
        for name in ("slip.mar", "slip.tar.gz", "hidden.mar"):
            parameters = {"url": name, "model_name": name.replace(".", "_"), "initial_workers": "1"}
            response = requests.post(
                f"{server.addresses.management}/models", params=parameters | {"synchronous": "true"}, timeout=TIMEOUT_S
            )
            assert response.status_code == 500, response.text
    assert not escaped.exists()
    assert ran.exists()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair of keys, and the folder of those that are trusted."""
    folder = tmp_path_factory.mktemp("keys")
    assert make("key", f"KEYS={folder}", environment={"KEY_PASSPHRASE": "secret"}).returncode == 0
    return folder


def sign(archive: Path, keys: Path) -> None:
    signed = make(
        "sign", f"ARCHIVE={archive.name}", f"STORE={archive.parent}", f"KEY={keys / 'private.pem'}",
        environment={"KEY_PASSPHRASE": "secret"},
    )  # fmt: skip
    assert signed.returncode == 0, signed.stderr


@pytest.fixture(scope="module")
def here(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return (f"STORE={store}", f"STATE={tmp_path_factory.mktemp('state') / 'state'}", "PORTS=free")


@pytest.fixture(scope="module")
def server(store: Path, keys: Path, here: tuple[str, ...]) -> Iterator[Server]:
    """One that is started with a public key: not before its archive is signed."""
    state = Path(here[1].partition("=")[2])
    starting = ("serve", f"MODELS={LITE0}", f"PUBLIC_KEY={keys / 'public.pem'}", *here)
    for key, reason in (
        (keys / "public.pem", "not signed"),
        (keys / "missing.pem", "No such file"),
        ("", "PUBLIC_KEY"),
    ):
        refused = make(*starting, f"PUBLIC_KEY={key}")
        assert refused.returncode != 0
        assert reason in refused.stderr
        assert not state.exists()
    sign(store / EAGER, keys)
    started = make(*starting)
    assert started.returncode == 0, started.stderr
    running = find(state)
    assert running is not None
    yield running
    assert make("stop", *here).returncode == 0


def registered(name: str, here: tuple[str, ...]) -> str:
    """What is said when an archive is registered, in a shell that knows nothing of a public key."""
    result = make("register", f"ARCHIVE={name}", *here)
    return "" if result.returncode == 0 else result.stderr


def test_the_server_never_sees_what_is_not_signed_or_forged_and_goes_on_serving(
    server: Server, store: Path, keys: Path, here: tuple[str, ...], files: Files, cat: bytes, tmp_path: Path
) -> None:
    client = Client(server.addresses)
    ran = tmp_path / "ran"
    assert f"there is no {TORCHSCRIPT}.sig" in registered(TORCHSCRIPT, here)

    with_file("../escaped.py")(store / "slip.mar", files)
    only_java_sees("numpy.py", f"open({str(ran)!r}, 'w')".encode(), store / "hidden.mar", files)
    write_zip(store / "more.mar", proven(files | {"numpy.py": b"raise ImportError('forged')"}))
    for name in ("slip.mar", "hidden.mar", "more.mar"):
        assert "not signed" in registered(name, here)
        assert (
            make("sign", f"ARCHIVE={name}", f"KEY={keys / 'private.pem'}", *here).returncode != 0
        )  # not even by mistake
        shutil.copy(signature_of(store / EAGER), signature_of(store / name))
        assert "it was changed after it was signed" in registered(name, here)

    sign(store / TORCHSCRIPT, keys)
    assert registered(TORCHSCRIPT, here) == ""
    assert [version.version for version in client.versions(LITE0)] == ["1.0", "2.0"]
    assert len({version.name for version in client.versions()}) == 1
    assert client.predict(cat, LITE0)["class"] == "n02124075 Egyptian cat"
    assert not ran.exists()

    # and what is restored is checked again, with the key that the last server had
    assert make("stop", *here).returncode == 0
    content = bytearray((store / TORCHSCRIPT).read_bytes())
    content[len(content) // 2] ^= 1
    (store / TORCHSCRIPT).write_bytes(content)
    again = make("serve", *here)
    assert again.returncode != 0
    assert f"{TORCHSCRIPT}: it was changed after it was signed" in again.stderr
