"""Fuzzes the decoder or the request parser for some time: `make fuzz TARGET=decode SECONDS=60`.

libFuzzer's log, its corpus of inputs and the inputs that failed stay in .fuzz/<target>/.
"""

import base64
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from scripts.console import UserError, done, step
from stress.hostile.corpus import corpus
from stress.hostile.files import png

FOLDER: Final = Path(".fuzz")
_LARGEST: Final = 1 << 16  # bytes of an input
_SLOWEST_S: Final = 20  # the longest time for one input, which has at most 64 KB
_MOST_MEMORY_MB: Final = 3000
_COVERED: Final = re.compile(r"^#\d+\s+\S+\s+cov: (\d+)", re.MULTILINE)
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_GRACE_S: Final = 120  # for starting, reading the seeds and ending


class Target(NamedTuple):
    """A program to fuzz."""

    name: str
    program: list[str]  # arguments of Python
    seeds: Callable[[], dict[str, bytes]]  # the first inputs, by file name


class Outcome(NamedTuple):
    """The result of a run of libFuzzer."""

    executions: int
    covered_first: int  # branches of Python code that the seeds reach
    covered: int


def fuzz(target: Target, seconds: int, folder: Path, replay: Path | None = None) -> Outcome:
    """Run a target for some time, or once on one input.

    Raises:
        UserError: an input failed; the message names its file.
    """
    inputs, log = folder / "corpus", folder / "log.txt"
    inputs.mkdir(parents=True, exist_ok=True)
    limits = [f"-timeout={_SLOWEST_S}", f"-rss_limit_mb={_most_memory_mb()}", f"-artifact_prefix={folder}/"]
    if replay is None:
        for name, seed in target.seeds().items():
            (inputs / name).write_bytes(seed)
        limits += [f"-max_total_time={seconds}", f"-max_len={_LARGEST}", "-print_final_stats=1"]
    command = [sys.executable, *target.program, *limits, str(replay or inputs)]
    with log.open("wb") as stream:
        ended = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, timeout=seconds + _GRACE_S, check=False
        )
    text = log.read_text(errors="replace")
    if ended.returncode:
        raise UserError(_finding(target.name, text, log, replay))
    covered = [int(number) for number in _COVERED.findall(text)] or [0]
    executed = _EXECUTED.search(text)
    return Outcome(int(executed[1]) if executed else 1, covered[0], covered[-1])


def _most_memory_mb() -> int:
    """What libFuzzer may see as its peak memory: Linux hands this process's own peak on to the programs it starts."""
    return _MOST_MEMORY_MB + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _finding(target: str, text: str, log: Path, replayed: Path | None) -> str:
    written = re.search(r"Test unit written to (\S+)", text)
    what = re.search(r"=== Uncaught Python exception: ===\n(.*)", text)
    failed = replayed or (written and written[1])
    if failed is None:
        return f"the fuzzer of {target} ended by itself; see {log}"
    return (
        f"{what[1] if what else 'an input took too long or too much memory'}; replay it with "
        f"`make fuzz TARGET={target} INPUT={failed}`, the whole log: {log}"
    )


def decode_seeds() -> dict[str, bytes]:
    """The small files of the hostile corpus."""
    small = [body for body in corpus() if 0 < len(body.content) <= _LARGEST and not body.content_type]
    return {body.name.replace("/", "-"): body.content for body in small}


def request_seeds() -> dict[str, bytes]:
    """A request of each shape that the contract has."""
    picture = png(1, 1, b"\0\0")
    text = base64.b64encode(picture).decode()
    tensor = {"name": "pictures", "shape": [1], "datatype": "BYTES", "data": [text]}
    shapes: dict[str, object] = {
        "one": {"instances": [{"b64": text}]},
        "two": {"instances": [{"b64": text}, {"b64": "%%%"}]},
        "six": {"instances": [{"b64": "aaaa"}] * 6},
        "none": {"instances": []},
        "v2": {"inputs": [tensor]},
        "v2-all": {"inputs": [tensor], "id": "7", "parameters": {"top_k": 2}, "outputs": [{"name": "class_id"}]},
    }
    seeds = {name: json.dumps(shape).encode() for name, shape in shapes.items()} | {"picture": picture}
    heads = {"plain": b"\n\n", "json": b"application/json\n3\n", "decoded": b"decoded\n\n"}
    return {f"{name}-{kind}": head + seed for name, seed in seeds.items() for kind, head in heads.items()}


TARGETS: Final = {
    name: Target(name, ["-m", f"stress.fuzz.{name}"], seeds)
    for name, seeds in (("decode", decode_seeds), ("request", request_seeds))
}


def main(
    *,
    target: Literal["decode", "request"] = "decode",
    seconds: int = 60,
    input_: Path | None = None,
    folder: Path = FOLDER,
) -> None:
    """Look for bytes that the decoder or the request parser cannot handle.

    Args:
        target: the decoder, or the request parser.
        seconds: how long to fuzz.
        input_: one input to run instead, for example one that failed before.
        folder: folder for inputs and the log.
    """
    step(f"fuzzing {target}" + ("" if input_ else f" for {seconds} s"))
    outcome = fuzz(TARGETS[target], seconds, folder / target, input_)
    if input_:
        done(f"{input_} does no harm")
    else:
        done(
            f"{outcome.executions} executions without a finding; "
            f"branches covered: {outcome.covered_first} by the first input, {outcome.covered} in the end"
        )
