"""Signatures: whose they are, what they are of, and what is refused."""

import base64
import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.admission.admit import admit
from scripts.admission.signing import (
    PublicKeys,
    check_signature,
    create_keys,
    key_id,
    read_private_key,
    read_public_keys,
    sign,
)
from scripts.archives.store import signature_of
from scripts.console import UserError

FORMATS = ("zip-store", "tgz", "no-archive")
every_format = pytest.mark.parametrize("archive_format", FORMATS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ed25519PrivateKey, PublicKeys]:
    folder = tmp_path_factory.mktemp("keys")
    public = create_keys(folder, None)
    return read_private_key(folder / "private.pem", None), read_public_keys(public)


@pytest.fixture
def archive(tiny_archive: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an archive, to sign and to change."""

    def copied(archive_format: str = "zip-store") -> Path:
        source = tiny_archive("eager", archive_format)
        target = tmp_path / source.name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return target

    return copied


def change(archive: Path) -> None:
    """One bit of the weights, or of what is in their place."""
    path = archive / "tiny.pth" if archive.is_dir() else archive
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@every_format
def test_what_was_signed_is_let_in(
    archive_format: str, archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path, (private, keys) = archive(archive_format), pair
    assert sign(path, private) == signature_of(path)
    check_signature(path, keys)
    assert admit(path.name, path.parent, keys, "served").path == path


@every_format
def test_what_was_not_signed_is_not_and_the_message_says_how_it_would_be(
    archive_format: str, archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path = archive(archive_format)
    with pytest.raises(UserError, match=rf"not signed; there is no {path.name}\.sig\. `make sign ARCHIVE={path}`"):
        admit(path.name, path.parent, pair[1], "served")


@every_format
@pytest.mark.parametrize("purpose", ["served", "registered"])
def test_one_changed_bit_is_found(
    archive_format: str,
    purpose: str,
    archive: Callable[[str], Path],
    pair: tuple[Ed25519PrivateKey, PublicKeys],
) -> None:
    path, (private, keys) = archive(archive_format), pair
    sign(path, private)
    change(path)
    with pytest.raises(UserError, match="was changed after"):
        admit(path.name, path.parent, keys, purpose)  # type: ignore[arg-type]


def test_a_folder_with_digests_made_right_again_is_found(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    from classifier.digests import write_digests

    path, (private, keys) = archive("no-archive"), pair
    sign(path, private)
    change(path)
    (path / "digests.json").unlink()
    write_digests(path)
    with pytest.raises(UserError, match="it was changed after it was signed"):
        check_signature(path, keys)


def test_byte_code_in_a_signed_folder_is_gone_before_python_can_run_it(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path, (private, keys) = archive("no-archive"), pair
    sign(path, private)
    cache = path / "classifier" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "decode.cpython-311.pyc").write_bytes(b"evil")
    admit(path.name, path.parent, keys, "served")
    assert list(path.rglob("__pycache__")) == []


def test_byte_code_that_lies_elsewhere_is_refused(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys], tmp_path: Path
) -> None:
    path, (private, keys) = archive("no-archive"), pair
    shutil.rmtree(path / "classifier" / "__pycache__", ignore_errors=True)
    sign(path, private)
    (tmp_path / "elsewhere").mkdir()
    (path / "classifier" / "__pycache__").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="unsigned byte code"):
        admit(path.name, path.parent, keys, "served")


def test_an_archive_outside_the_store_is_not_admitted_in_place_of_the_stores_own(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    """TorchServe would be told the name and load the store's file, which is not the one that was checked."""
    path = archive("zip-store")
    (tmp_path / "store").mkdir()
    shutil.copy(path, tmp_path / "store")
    with pytest.raises(UserError, match=r"does not lie in the model store .*; copy it there first, or .* STORE="):
        admit(str(path), tmp_path / "store", None, "served")


def test_somebody_elses_signature_is_refused(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path, stranger = archive("zip-store"), Ed25519PrivateKey.generate()
    sign(path, stranger)
    (mine,) = pair[1]
    with pytest.raises(UserError, match=f"signed with key {key_id(stranger.public_key())}, .* trusted here: {mine}"):
        check_signature(path, pair[1])


def forged(signature: dict[str, str]) -> dict[str, str]:
    return signature | {"signature": base64.b64encode(bytes(64)).decode()}


def no_base64(signature: dict[str, str]) -> dict[str, str]:
    return signature | {"signature": "!" + signature["signature"]}


def of_another(signature: dict[str, str]) -> dict[str, str]:
    return signature | {"sha256": "0" * 64}


def of_another_algorithm(signature: dict[str, str]) -> dict[str, str]:
    return signature | {"algorithm": "none"}


def with_more(signature: dict[str, str]) -> dict[str, str]:
    return signature | {"until": "2030"}


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (forged, "its signature is forged"),
        (no_base64, "its signature is forged"),
        (of_another, "it was changed after it was signed"),
        (of_another_algorithm, "not a signature"),
        (with_more, "not a signature"),
        (lambda signature: signature | {"key": "\x1b]0;evil\x07"}, "not a signature"),
        (lambda _: {}, "not a signature"),
        (lambda _: {"key": "0" * 10_000}, "not a signature"),
    ],
)
def test_a_forged_signature_is_refused(
    forge: Callable[[dict[str, str]], dict[str, str]],
    reason: str,
    archive: Callable[[str], Path],
    pair: tuple[Ed25519PrivateKey, PublicKeys],
) -> None:
    path, (private, keys) = archive("zip-store"), pair
    beside = sign(path, private)
    beside.write_text(json.dumps(forge(json.loads(beside.read_text()))))
    with pytest.raises(UserError, match=reason):
        check_signature(path, keys)


def test_a_stranger_who_names_a_trusted_key_is_refused(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path = archive("zip-store")
    beside = sign(path, Ed25519PrivateKey.generate())
    (mine,) = pair[1]
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"key": mine}))
    with pytest.raises(UserError, match=f"is forged; key {mine} did not make it"):
        check_signature(path, pair[1])


def test_a_signature_of_a_file_is_none_of_a_folder_and_the_key_signs_nothing_but_archives(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path, (private, keys) = archive("no-archive"), pair
    beside = sign(path, private)
    signature = json.loads(beside.read_text())
    for message in (f"file sha256:{signature['sha256']}\n", signature["sha256"], bytes.fromhex(signature["sha256"])):
        content = message if isinstance(message, bytes) else message.encode()
        replaced = signature | {"signature": base64.b64encode(private.sign(content)).decode()}
        beside.write_text(json.dumps(replaced))
        with pytest.raises(UserError, match="forged"):
            check_signature(path, keys)


def test_what_is_broken_is_never_signed(
    archive: Callable[[str], Path], pair: tuple[Ed25519PrivateKey, PublicKeys]
) -> None:
    path = archive("zip-store")
    change(path)
    with pytest.raises(UserError, match="it is not signed"):
        sign(path, pair[0])
    assert not signature_of(path).exists()


def test_any_of_several_keys_may_have_signed(archive: Callable[[str], Path], tmp_path: Path) -> None:
    path, trusted = archive("zip-store"), tmp_path / "trusted"
    trusted.mkdir()
    for name in ("old", "new"):
        shutil.copy(create_keys(tmp_path / name, None), trusted / f"{name}.pem")
    keys = read_public_keys(trusted)
    assert len(keys) == 2
    for name in ("old", "new"):
        sign(path, read_private_key(tmp_path / name / "private.pem", None))
        check_signature(path, keys)


def test_keys_are_private_encrypted_and_never_overwritten(tmp_path: Path) -> None:
    create_keys(tmp_path / "signing", "a passphrase")
    private = tmp_path / "signing" / "private.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in private.read_bytes()
    before = private.read_bytes()
    with pytest.raises(UserError, match=r"private\.pem already exists"):
        create_keys(tmp_path / "signing", None)
    assert private.read_bytes() == before
    assert read_private_key(private, "a passphrase")
    for passphrase in ("another", None):
        with pytest.raises(UserError, match="KEY_PASSPHRASE"):
            read_private_key(private, passphrase)


def other_kind(path: Path) -> None:
    public = generate_private_key(SECP256R1()).public_key()
    path.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, "No such file"),
        (Path.mkdir, r"there is no public key \(\*\.pem\)"),
        (lambda path: path.write_bytes(b""), "not a public key in PEM"),
        (
            lambda path: path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
            "not a public",
        ),
        (other_kind, "not an Ed25519 key"),
    ],
)
def test_a_public_key_that_cannot_be_read_is_an_error_and_never_no_check(
    make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    make(tmp_path / "key")
    with pytest.raises(UserError, match=f"PUBLIC_KEY={re.escape(str(tmp_path / 'key'))}: .*{reason}"):
        read_public_keys(tmp_path / "key")


def test_one_bad_key_of_a_folder_is_an_error_too(tmp_path: Path) -> None:
    create_keys(tmp_path, None)  # the private one is no public one
    with pytest.raises(UserError, match=r"private\.pem: not a public key"):
        read_public_keys(tmp_path)


@pytest.mark.slow
def test_the_program_makes_keys_and_signs_by_name(archive: Callable[[str], Path], tmp_path: Path) -> None:
    path = archive("zip-store")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "scripts.command_line", *arguments]
        environment = {"KEY_PASSPHRASE": "secret", "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    keys = tmp_path / "signing"
    assert "keep" in run("key", f"--keys={keys}")
    run("sign", "tiny", f"--store={tmp_path}", f"--key={keys / 'private.pem'}")
    check_signature(path, read_public_keys(keys / "public.pem"))
    signature_of(path).unlink()
    (tmp_path / "store").mkdir()
    shutil.copy(path, tmp_path / "store")
    run("sign", str(path), f"--store={tmp_path / 'store'}", f"--keys={keys}")
    assert signature_of(path).exists()
    assert not signature_of(tmp_path / "store" / path.name).exists()
