import pytest
from classifier.decode import decode_scaled
from classifier.pipeline import Classifier
from classifier.problems import Problem
from classifier.record import Record


def test_a_batch_leaves_the_time_of_each_stage_and_what_its_pictures_were_like(tiny: Classifier, cat: bytes) -> None:
    record = Record()
    good, bad = tiny.classify([cat, b"no picture"], [1, 1], record)
    assert [span.stage for span in record.spans] == ["decode", "forward", "rank"]
    assert all(span.seconds > 0 for span in record.spans)
    assert [span.begin for span in record.spans] == sorted(span.begin for span in record.spans)
    (seen,) = record.seen
    assert (seen.format, seen.pixels) == ("PNG", 451 * 300)
    (scores,) = record.scores
    assert isinstance(good, list)
    assert scores.max() == good[0].probability
    assert isinstance(bad, Problem)


def test_a_stage_that_fails_is_timed_as_well() -> None:
    record = Record()
    with pytest.raises(ValueError, match="why"), record.stage("forward"):
        raise ValueError("why")
    assert [span.stage for span in record.spans] == ["forward"]


def test_a_picture_is_seen_before_it_turns_out_to_be_broken(coffee: bytes) -> None:
    found: list[tuple[str, int]] = []
    with pytest.raises(Problem):
        decode_scaled(coffee[:20_000], 10**9, 224, lambda *seen: found.append(seen))
    ((_, pixels),) = found
    assert pixels == 600 * 400
