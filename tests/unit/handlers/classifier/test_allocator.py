import subprocess
import sys
from pathlib import Path

import pytest

HANDLERS = Path(__file__).parents[4] / "handlers"
LARGE = 200 << 20  # bytes; far beyond what glibc keeps by itself

# Prints how much memory it has: before, while it uses some, as soon as that is free, and later.
PROGRAM = f"""
import sys, time, psutil
sys.path.insert(0, {str(HANDLERS)!r})
from classifier.allocator import give_back, keep_memory

def have():
    return psutil.Process().memory_info().rss

keep_memory(every_s=float(sys.argv[1]))
print(have())
used = [b"x" * (1 << 20) for _ in range({LARGE >> 20})]
print(have())
del used
if sys.argv[3:] == ["now"]:
    give_back()
print(have())
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    time.sleep(0.05)
print(have())
"""


def held(every_s: float, later_s: float, *options: str) -> list[int]:
    """Bytes beyond what the process began with: in use, just freed, later."""
    command = [sys.executable, "-c", PROGRAM, str(every_s), str(later_s), *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    before, *rest = (int(line) for line in ran.stdout.split())
    return [now - before for now in rest]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_memory_is_kept_for_the_next_batch_and_given_back_in_the_end() -> None:
    used, freed, later = held(every_s=1.0, later_s=2.0)
    assert used > 0.9 * LARGE
    assert freed > 0.9 * LARGE
    assert later < 0.1 * LARGE


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_nothing_is_given_back_before_its_time() -> None:
    *_, later = held(every_s=60.0, later_s=1.0)
    assert later > 0.9 * LARGE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_it_is_given_back_at_once_to_who_asks() -> None:
    used, freed, _ = held(60.0, 0.0, "now")
    assert used > 0.9 * LARGE
    assert freed < 0.1 * LARGE
