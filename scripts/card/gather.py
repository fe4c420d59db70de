"""Gathers what is known of an archive, and measures what is not: all that the page says."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
from classifier.identity import Identity
from classifier.labels import Label
from classifier.pipeline import Classifier

from scripts.admission.signing import PublicKeys, check_signature
from scripts.archives.loaded import loaded
from scripts.archives.store import Archive, archives_in, read_archive_identity
from scripts.card.evaluation import Evaluation, evaluate
from scripts.card.facts import Facts, read_facts, size_of
from scripts.card.parity import Difference, differences, is_reference
from scripts.card.pictures import Outputs, Sample, outputs, read_samples, sample_paths
from scripts.card.speed import Clock, Machine, Ratio, Speed, Turn, ratio, speed, take_turns, this_machine
from scripts.console import UserError, progress, step, warn
from scripts.measuring.evaluate import find_pictures


class LeftOut(msgspec.Struct, frozen=True):
    """An archive of the store that is not compared, and why."""

    name: str
    reason: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An archive of the model, compared with the page's own."""

    name: str
    identity: Identity
    size: int  # bytes
    speed: Speed
    ratio: Ratio | None  # None for the page's own
    differences: list[Difference] | None  # from the reference; None where that is not in the store


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says of an archive."""

    name: str
    identity: Identity
    facts: Facts
    day: date  # of the measurements
    machine: Machine
    others: float  # share of the processors, 0…1, that other programs took while speed was measured
    samples: list[Sample]
    pictures: int  # of which the samples are the first
    evaluation: Evaluation | None  # None without labelled pictures
    reference: str | None  # the name of the float32 eager archive; None if it is not in the store
    rows: list[Row]  # the fastest first
    left_out: list[LeftOut]

    @property
    def is_reference(self) -> bool:
        """Whether the page's own archive is the one that others are compared with."""
        return self.reference == self.name

    @property
    def own(self) -> Row:
        """The row of the page's own archive."""
        return next(row for row in self.rows if row.ratio is None)


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of an archive."""

    archive: Archive
    turns: list[Turn]
    own_turns: list[Turn]  # of the page's own archive, in the same rounds
    outputs: Outputs | None  # computed from the samples; None of an archive with other weights


def gather(
    archive: Archive,
    store: Path,
    *,
    data: Path | None = None,
    pictures: Path | None = None,
    keys: PublicKeys | None = None,
) -> Card:
    """Gather what the page says of an archive.

    Args:
        archive: the archive.
        store: the folder of the model's other archives.
        data: a folder of labelled pictures, with a folder for each class.
        pictures: a folder of sample pictures; without it, those of the golden set.
        keys: the keys that must have signed what is loaded; None loads unsigned archives too.

    Raises:
        UserError: the archive cannot be used or is not signed by one of the keys, or a folder has no pictures.
    """
    step(f"reading {archive.path.name}")
    facts = read_facts(archive, keys)
    paths, there = sample_paths(pictures)
    labelled, unused = ([], []) if data is None else find_pictures(data, facts.labels)
    for reason in unused:
        warn(f"DATA={data}: {reason}; left out")
    others, left_out = siblings(archive, store, keys)
    with loaded(archive.path) as own:
        samples = read_samples(paths, own)
        picture = _readable(paths, samples)
        evaluation = evaluate(own, labelled) if labelled else None
        begin = Clock.read()
        measured, failed = _measure_all(archive, own, others, samples, picture)
        others_took = Clock.read().others_since(begin)
    rows, reference = _rows(measured, samples, facts.labels)
    return Card(
        name=archive.path.name,
        identity=archive.identity,
        facts=facts,
        day=date.today(),  # the user's day
        machine=this_machine(),
        others=others_took,
        samples=samples,
        pictures=there,
        evaluation=evaluation,
        reference=reference,
        rows=rows,
        left_out=left_out + failed,
    )


def siblings(archive: Archive, store: Path, keys: PublicKeys | None = None) -> tuple[list[Archive], list[LeftOut]]:
    """The other archives of the same model in the store, and those that may not be loaded."""
    found: list[Archive] = []
    left_out: list[LeftOut] = []
    for path in archives_in(store):
        if archive.path.exists() and path.samefile(archive.path):
            continue
        try:
            other = Archive(path, read_archive_identity(path))
            if other.identity.model.name == archive.identity.model.name:
                if keys is not None:
                    check_signature(path, keys)
                found.append(other)
        except UserError as error:
            left_out.append(LeftOut(path.name, str(error)))
    return found, left_out


def _readable(paths: Sequence[Path], samples: Sequence[Sample]) -> bytes:
    """The first sample that can be read."""
    for path, sample in zip(paths, samples, strict=True):
        if sample.pixels is not None:
            return path.read_bytes()
    raise UserError(f"PICTURES={paths[0].parent}: none of the first {len(paths)} files there is a picture")


def _measure_all(
    archive: Archive, own: Classifier, others: Sequence[Archive], samples: Sequence[Sample], picture: bytes
) -> tuple[list[_Measured], list[LeftOut]]:
    """Measure the page's own archive, which comes first, and others in turns with it; and those that do not load."""
    measured: list[_Measured] = []
    failed: list[LeftOut] = []
    with progress(f"archives of {archive.identity.model.name}", 1 + len(others)) as advance:
        alone = take_turns([own], picture)[0]
        advance(1)
        for other in others:
            try:
                measured.append(_measure(archive, own, other, samples, picture))
            except UserError as error:
                failed.append(LeftOut(other.path.name, str(error)))
            advance(1)
    turns = [*alone, *(turn for item in measured for turn in item.own_turns)]
    mine = _Measured(archive=archive, turns=turns, own_turns=turns, outputs=outputs(samples, own))
    return [mine, *measured], failed


def _measure(archive: Archive, own: Classifier, other: Archive, samples: Sequence[Sample], picture: bytes) -> _Measured:
    same = archive.identity.weights_sha256 == other.identity.weights_sha256
    with loaded(other.path) as loaded_other:
        own_turns, turns = take_turns([own, loaded_other], picture)
        found = outputs(samples, loaded_other) if same else None
    return _Measured(archive=other, turns=turns, own_turns=own_turns, outputs=found)


def _rows(
    measured: Sequence[_Measured], samples: Sequence[Sample], labels: Sequence[Label]
) -> tuple[list[Row], str | None]:
    """The rows of all archives, of which the page's own comes first here; and the name of their reference."""
    own = measured[0]
    reference = next((item for item in measured if is_reference(item.archive, own.archive)), None)
    rows = []
    for item in measured:
        found = None
        if reference is not None and reference.outputs is not None and item.outputs is not None:
            found = differences(samples, reference.outputs, item.outputs, labels)
        rows.append(
            Row(
                name=item.archive.path.name,
                identity=item.archive.identity,
                size=size_of(item.archive.path),
                speed=speed(item.turns),
                ratio=None if item is own else ratio(item.own_turns, item.turns),
                differences=found,
            )
        )
    rows.sort(key=lambda row: -(1.0 if row.ratio is None else row.ratio.lone))
    return rows, None if reference is None else reference.archive.path.name
