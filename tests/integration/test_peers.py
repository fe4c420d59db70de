"""Another server beside this project's, both started for real, with the same model."""

from pathlib import Path

import psutil
import pytest

from benchmarks.comparison import measure_turns, our_side, peer_side
from benchmarks.measure import Effort
from benchmarks.peers.server import require_peers
from benchmarks.peers.subject import subject_of
from benchmarks.pictures import make_pictures
from benchmarks.targets import over_peers
from scripts.archives.store import find_archive
from scripts.console import step
from tests.integration.conftest import STORE, make
from tests.integration.contract import LITE0


@pytest.mark.thorough
def test_another_server_gives_the_same_answers_and_is_measured_as_ours_is(tmp_path: Path) -> None:
    installed = make(".peers/mosec/.complete")
    assert installed.returncode == 0, installed.stderr
    require_peers(["mosec"])
    eager, bodies = find_archive(f"{LITE0}-eager", STORE), make_pictures(tmp_path)["small"]
    effort = Effort(warm_up_s=1, rounds=1, stock_s=1, seconds=2, lone_s=1)
    with subject_of(eager) as subject:
        sides = [our_side(eager), peer_side("mosec", subject)]
        measure_turns(sides, bodies, 8, effort, step, memory=True)
    for contender, _ in sides:
        (turn,) = contender.turns
        assert turn.load.failed == 0
        assert 1 < turn.load.rate < 1000
        assert turn.start_s > 0.5
        assert turn.cpu_ms > 1
        assert contender.memory_mb is not None
        assert contender.memory_mb > 100
    names = {row.what.rpartition(": ")[2] for row in over_peers(LITE0, [side.contender for side in sides])}
    assert {"throughput", "p50", "p99", "memory", "start"} <= names
    assert not [item for item in psutil.process_iter(["cmdline"]) if "benchmarks.peers" in str(item.info["cmdline"])]
