"""The bill of materials beside an archive, `<archive>.cdx.json`, in CycloneDX 1.6: its content and what it runs on.

All of it comes from the archive and from the packages installed here, so that the same archive gets the same bytes: it
has no time of the build, and its serial number is made from the digest.
"""

import uuid
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

import msgspec
from classifier.digests import DIGESTS_FILE, digest, members
from classifier.identity import IDENTITY_FILE, PARITY_FILE, Identity
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from scripts.archives.store import sbom_of
from scripts.building.gate import Report
from scripts.building.requirements import PROJECT, packages

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, PROJECT)
_PREFIX: Final = "image-classifier:"  # of properties that CycloneDX does not have itself


def write_sbom(archive: Path) -> Path:
    """Write the bill of materials of an archive (`.mar`, `.tar.gz` or directory) beside it; returns its path.

    The archive's digests and reports are trusted, because it was just built.

    Raises:
        BrokenArchiveError, OSError: the archive cannot be read.
    """
    read = (IDENTITY_FILE, PARITY_FILE, DIGESTS_FILE)
    found = {name: stream.read() for name, stream in members(archive) if name in read}
    identity = msgspec.json.decode(found[IDENTITY_FILE], type=Identity)
    report = msgspec.json.decode(found[PARITY_FILE], type=Report)
    digests = msgspec.json.decode(found[DIGESTS_FILE], type=dict[str, str])
    with (archive / DIGESTS_FILE if archive.is_dir() else archive).open("rb") as stream:
        sha256 = digest(stream)
    bom = _bill(archive, identity, digests, sha256)
    bom.metadata.tools = ToolRepository(components=[_tool(name, version) for name, version in report.tools.items()])
    path = sbom_of(archive)
    path.write_text(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n")
    return path


def _bill(archive: Path, identity: Identity, digests: dict[str, str], sha256: str) -> Bom:
    main = Component(
        name=archive.name,
        type=ComponentType.APPLICATION,  # code and configuration around a model, which is a component of it
        version=identity.model.version,
        bom_ref=archive.name,
        hashes=[] if archive.is_dir() else [_sha256(sha256)],  # a folder has no digest, only its files
        properties=[
            Property(name=f"{_PREFIX}{name}", value=value)
            for name, value in (("model", identity.model.name), ("precision", identity.model.precision))
        ],
    )
    weights = Component(
        name=identity.model.weights,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=identity.weights_sha256[:8],
        bom_ref=f"weights:{identity.weights_sha256}",
        description="the file of weights, or the program, that the archive was built from",
        hashes=[_sha256(identity.weights_sha256)],
    )
    files = [
        Component(name=name, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=[_sha256(value)])
        for name, value in sorted(digests.items())
    ]
    graph = packages(identity.model.runtime, identity.requirements)
    roots = graph.pop(PROJECT)
    found = {name: _package(distribution(name)) for name in sorted(graph)}
    metadata = BomMetaData(component=main)
    metadata.timestamp = None  # type: ignore[assignment] # the setter takes it, and the schema
    serial = uuid.uuid5(_NAMESPACE, sha256)
    bom = Bom(serial_number=serial, metadata=metadata, components=[weights, *files, *found.values()])
    bom.register_dependency(main, [weights, *files, *(found[name] for name in sorted(roots))])
    for name, package in found.items():
        bom.register_dependency(package, [found[other] for other in sorted(graph[name])])
    return bom


def _package(installed: Distribution) -> Component:
    name = canonicalize_name(installed.name)
    purl = PackageURL("pypi", name=name, version=installed.version)
    return Component(
        name=name,
        type=ComponentType.LIBRARY,
        version=installed.version,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(licence) for licence in _licences(installed)],
    )


def _licences(installed: Distribution) -> list[str]:
    """A package's licences, from its metadata: an SPDX expression, or PyPI's classifiers in older packages."""
    if "License-Expression" in installed.metadata:
        return [installed.metadata["License-Expression"]]
    classifiers = installed.metadata.get_all("Classifier", [])
    return [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]


def _tool(name: str, version: str) -> Component:
    purl = None if name == "python" else PackageURL("pypi", name=name, version=version)
    return Component(name=name, type=ComponentType.APPLICATION, version=version, purl=purl, bom_ref=f"tool:{name}")


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)
