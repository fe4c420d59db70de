"""Signatures of archives: `make key`, `make sign`, and the check by everybody who has the public key.

An archive's signature lies beside it, in `<archive>.sig`. It is an Ed25519 signature (RFC 8032) of the SHA-256 of the
whole file, so no reader of archives has to be trusted; for an unpacked archive, of the SHA-256 of its digests.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from classifier.digests import DIGESTS_FILE, digest, verify
from classifier.errors import DECODE_ERRORS, BrokenArchiveError
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from scripts.admission.layout import check_layout
from scripts.admission.manifest import check_manifest
from scripts.archives.store import STORE, find_path, refusal, signature_of
from scripts.console import UserError, done, step

PASSPHRASE: Final = "KEY_PASSPHRASE"  # noqa: S105 - the name of the variable that holds it

KEYS: Final = Path("signing")

_PRIVATE: Final = "private.pem"
_PUBLIC: Final = "public.pem"
_MAX_BYTES: Final = 4096  # of a signature file; those of `make sign` have 300
_KEY_ID_DIGITS: Final = 16

# The keys to trust, by the identifiers that signatures name.
PublicKeys = Mapping[str, Ed25519PublicKey]


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a signature file."""

    algorithm: Literal["ed25519"] = "ed25519"
    key: Annotated[str, Meta(pattern=rf"^[0-9a-f]{{{_KEY_ID_DIGITS}}}\Z")]  # the key that signed, by its `key_id`
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # of the archive
    signature: str  # base64


def create_keys(folder: Path, passphrase: str | None) -> Path:
    """Write a new pair of keys, of which only the owner can read the private one; returns the public one's path.

    Args:
        folder: the folder to write into.
        passphrase: encrypts the private key; None leaves it unencrypted.

    Raises:
        UserError: the folder already has keys, or cannot be written to.
    """
    key = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(folder / _PRIVATE, private, 0o600)
        _write_new(folder / _PUBLIC, public, 0o644)
    except FileExistsError as error:
        raise UserError(f"{error.filename} already exists; an existing key is never overwritten") from error
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from error
    return folder / _PUBLIC


def sign(archive: Path, key: Ed25519PrivateKey) -> Path:
    """Check an archive's layout, manifest and digests, then write its signature; returns the signature's path.

    Raises:
        UserError: the archive differs from what `make archive` built.
    """
    try:
        check_layout(archive)
        check_manifest(archive)
        verify(archive)
        sha256 = digest_of(archive)
    except BrokenArchiveError as error:
        raise refusal(archive, error, "it is not signed") from error
    signature = Signature(
        key=key_id(key.public_key()),
        sha256=sha256,
        signature=base64.b64encode(key.sign(_message(archive, sha256))).decode(),
    )
    path = signature_of(archive)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(signature)) + b"\n")
    part.replace(path)
    return path


def check_signature(archive: Path, keys: PublicKeys) -> None:
    """Refuse an archive unless one of these keys has signed exactly this content.

    Raises:
        UserError: the archive is not signed, was signed with another key, or was changed since; the message says which.
    """
    signature = read_signature(archive)
    key = keys.get(signature.key)
    if key is None:
        trusted = ", ".join(sorted(keys))
        raise UserError(f"{archive}: signed with key {signature.key}, but only these are trusted here: {trusted}")
    try:
        sha256 = digest_of(archive)
    except BrokenArchiveError as error:
        raise refusal(archive, error) from error
    if sha256 != signature.sha256:
        raise UserError(f"{archive}: it was changed after it was signed")
    try:
        key.verify(base64.b64decode(signature.signature, validate=True), _message(archive, sha256))
    except (InvalidSignature, binascii.Error) as error:
        raise UserError(f"{archive}: its signature is forged; key {signature.key} did not make it") from error


def read_public_keys(path: Path) -> PublicKeys:
    """The keys to trust: that of a PEM file, or those of all `*.pem` of a folder.

    Raises:
        UserError: there is no key, or one cannot be read; in neither case are all archives trusted.
    """
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"PUBLIC_KEY={path}: there is no public key (*.pem) in that folder")
    keys = {}
    for file in files:
        try:
            key = serialization.load_pem_public_key(file.read_bytes())
        except OSError as error:
            raise UserError(f"PUBLIC_KEY={file}: {error.strerror}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UserError(
                f"PUBLIC_KEY={file}: not a public key in PEM; a server needs only {_PUBLIC}, which `make key` writes"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise UserError(f"PUBLIC_KEY={file}: not an Ed25519 key; `make key` writes one")
        keys[key_id(key)] = key
    return keys


def public_key(environment: Mapping[str, str]) -> Path | None:
    """The public key of the signer: the file or folder that the variable `PUBLIC_KEY` names; None without it.

    Raises:
        UserError: the variable is set but empty: a check was intended, and none would happen.
    """
    path = environment.get("PUBLIC_KEY")
    if path == "":
        raise UserError("PUBLIC_KEY is empty: name a public key or a folder of public keys, or unset the variable")
    return None if path is None else Path(path)


def read_private_key(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """The key to sign with.

    Raises:
        UserError: there is no key, it is of another kind, or the passphrase is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"KEY={path}: {error.strerror}; `make key` writes signing/{_PRIVATE}") from error
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except TypeError as error:  # encrypted without a passphrase, or the other way round
        raise UserError(
            f"KEY={path}: {str(error).rstrip('.')}; the passphrase is taken from the variable {PASSPHRASE}"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"KEY={path}: not a private key in PEM, or {PASSPHRASE} is not its passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"KEY={path}: not an Ed25519 key; `make key` writes one")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """The first digits of the SHA-256 of a key's DER form."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:_KEY_ID_DIGITS]


def digest_of(archive: Path) -> str:
    """The SHA-256 that is signed. For a folder it is that of its digests, so the folder is checked against them here.

    Raises:
        BrokenArchiveError: the folder differs from its digests.
    """
    if archive.is_dir():
        verify(archive)
    with (archive / DIGESTS_FILE if archive.is_dir() else archive).open("rb") as stream:
        return digest(stream)


def _message(archive: Path, sha256: str) -> bytes:
    """The text that is signed. It names its purpose, so that no signature of other data can be taken for it."""
    kind = "folder" if archive.is_dir() else "file"
    return f"torchserve-image-classifier archive v1\n{kind} sha256:{sha256}\n".encode()


def read_signature(archive: Path) -> Signature:
    """Read the signature beside an archive, which proves nothing yet: `check_signature` does that.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = signature_of(archive)
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=Signature)
    except FileNotFoundError as error:
        raise UserError(f"{archive}: not signed; there is no {path.name}. `make sign ARCHIVE={archive}`") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except DECODE_ERRORS as error:
        raise UserError(f"{path}: not a signature: {error}") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def key(*, keys: Path = KEYS) -> None:
    """Make a pair of keys to sign archives with; KEY_PASSPHRASE in the environment encrypts the private key.

    Args:
        keys: folder to write the keys into.
    """
    passphrase = os.environ.get(PASSPHRASE)
    public = create_keys(keys, passphrase)
    (identifier,) = read_public_keys(public)
    if not passphrase:
        step(f"the private key is not encrypted: {PASSPHRASE} was not set")
    done(f"key {identifier}: keep {public.with_name(_PRIVATE)} secret; servers need {public}")


def sign_archives(archive: tuple[str, ...], *, key: Path | None = None, keys: Path = KEYS, store: Path = STORE) -> None:
    """Sign archives; KEY_PASSPHRASE in the environment decrypts the private key.

    Args:
        archive: names in the store, or paths.
        key: the private key; without it, that of the folder `keys`.
        keys: folder of the keys.
        store: folder of the archives.
    """
    private = read_private_key(key or keys / _PRIVATE, os.environ.get(PASSPHRASE))
    for name in archive:
        done(f"{sign(find_path(name, store), private)} by key {key_id(private.public_key())}")
