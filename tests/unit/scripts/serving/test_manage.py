import json
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from scripts.archives.format import zip_entry
from scripts.archives.store import content_of
from scripts.building.build import build
from scripts.building.options import Options
from scripts.console import UserError
from scripts.serving import manage, versions
from scripts.serving.manage import register
from scripts.torchserve import drain
from scripts.torchserve.client import Client
from scripts.torchserve.config import write_config
from tests.unit.conftest import NOT_FOUND, Answer, FakeTorchServe, described

REGISTER = "POST /models?url=tiny-eager-1.0.mar&initial_workers=1&synchronous=false"
DESCRIBE = "GET /models/tiny/1.0"
UNREGISTER = "DELETE /models/tiny/1.0"
REGISTERED = Answer({"status": "Processing worker updates..."}, 202)
READY = Answer([described("1.0", "READY")])
LOAD_FAILED = Answer({"code": 500, "type": "InternalServerException", "message": "Worker died."}, 500)
LOADING = Answer([described("1.0", "UNLOADING")])
DIED = "2026-11-23T06:43:11,152 [DEBUG] W-9000-tiny_1.0 org.pytorch.serve.wlm.WorkerThread - W-9000-tiny_1.0 State change WORKER_STARTED -> WORKER_STOPPED\n"  # noqa: E501
LAST_WORDS = "2026-11-23T06:43:11,102 [INFO ] W-9000-tiny_1.0-stdout MODEL_LOG - RuntimeError: cannot serve tiny: {}\n"


@pytest.fixture
def archive(options: Options) -> Path:
    return build(options)[0]


@pytest.fixture
def client(torchserve: FakeTorchServe) -> Client:
    return Client(torchserve.addresses, connect_retries=0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "console.log"
    path.write_text(LAST_WORDS.format("what was wrong long ago"))
    return path


@pytest.mark.slow
def test_a_whole_archive_is_registered_by_its_file_name(
    archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    torchserve.answers = {REGISTER: [REGISTERED], DESCRIBE: [READY]}
    assert register(client, archive, log) == ("tiny", "1.0")
    assert torchserve.questions() == [REGISTER, DESCRIBE]


@pytest.mark.slow
def test_an_archive_that_was_changed_is_not_even_offered(
    archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(zip_entry("classifier/more.py", 9), "import os")
    with pytest.raises(UserError, match=r"classifier/more\.py is not one of the files .*; it is not registered"):
        register(client, archive, log)
    assert torchserve.questions() == []


@pytest.mark.slow
def test_an_archive_that_is_not_there_is_answered_with_what_is(archive: Path, client: Client, log: Path) -> None:
    with pytest.raises(UserError, match=r"no archive .*vgg16\.mar .*there: tiny-eager-1\.0\.mar"):
        register(client, archive.with_name("vgg16.mar"), log)


@pytest.mark.slow
@pytest.mark.parametrize("unregistered", [Answer({"status": "Model unregistered"}), NOT_FOUND])
def test_a_version_that_cannot_be_loaded_is_taken_away_again_and_its_last_words_are_told(
    unregistered: Answer, archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    class Dying(list[Answer]):
        """While the version is waited for, a worker writes its reason and ends."""

        def __getitem__(self, index: object) -> Answer:  # type: ignore[override]
            with log.open("a") as file:
                file.write(LAST_WORDS.format("net.py is missing") + DIED)
            return LOADING

    torchserve.answers = {REGISTER: [REGISTERED], DESCRIBE: Dying([LOADING]), UNREGISTER: [unregistered]}
    with pytest.raises(UserError, match=r"a worker of tiny 1\.0 died while loading: .*net\.py is missing"):
        register(client, archive, log)
    assert torchserve.questions() == [REGISTER, DESCRIBE, UNREGISTER]


@pytest.mark.slow
@pytest.mark.parametrize("unregistered", [Answer({"status": "Model unregistered"}), NOT_FOUND])
def test_a_version_that_the_server_could_not_start_is_taken_away_again(
    unregistered: Answer, archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    torchserve.answers = {REGISTER: [LOAD_FAILED], UNREGISTER: [unregistered]}
    with pytest.raises(UserError, match="Worker died"):
        register(client, archive, log)
    assert torchserve.questions() == [REGISTER, UNREGISTER]


@pytest.mark.slow
def test_what_the_log_said_before_is_not_taken_for_the_reason(
    archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    torchserve.answers = {REGISTER: [LOAD_FAILED]}
    with pytest.raises(UserError, match=r"Worker died.*: it wrote nothing"):
        register(client, archive, log)


def test_a_failed_load_is_told_also_without_a_log(
    archive: Path, client: Client, torchserve: FakeTorchServe, tmp_path: Path
) -> None:
    torchserve.answers = {REGISTER: [LOAD_FAILED]}
    with pytest.raises(UserError, match="Worker died"):
        register(client, archive, tmp_path / "no.log")


def test_a_version_that_is_there_already_stays(
    archive: Path, client: Client, torchserve: FakeTorchServe, log: Path
) -> None:
    conflict = {"code": 409, "type": "ConflictStatusException", "message": "Model version 1.0 is already registered"}
    torchserve.answers = {REGISTER: [Answer(conflict, 409)]}
    with pytest.raises(UserError, match="already registered"):
        register(client, archive, log)
    assert torchserve.questions() == [REGISTER]


def test_a_version_that_is_never_ready_is_a_clear_failure(
    archive: Path, client: Client, torchserve: FakeTorchServe, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise TimeoutError("tiny 1.0: no READY worker after 10 s")

    monkeypatch.setattr(client, "wait_ready", never)
    torchserve.answers = {REGISTER: [REGISTERED]}
    with pytest.raises(UserError, match="no READY worker"):
        register(client, archive, log)


@pytest.fixture
def state(archive: Path, tmp_path: Path) -> Path:
    """The state folder of a server whose model store is that of the archive."""
    folder = tmp_path / "state"
    folder.mkdir()
    write_config({"model_store": str(archive.parent)}, folder / "config.properties")
    return folder


@pytest.fixture
def running(torchserve: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> FakeTorchServe:
    """The fake server, which every state folder leads to."""
    monkeypatch.setattr(manage, "running", lambda _: torchserve.server)
    monkeypatch.setattr(drain, "_QUIET_S", 0.0)
    return torchserve


MODELS = "GET /models?next_page_token=0"


def with_default(version: str, *others: str) -> dict[str, list[Answer]]:
    """What TorchServe says when tiny has these versions, all of them READY."""
    versions = [described(number, "READY") for number in (version, *others)]
    return {
        MODELS: [Answer({"models": [{"modelName": "tiny"}]})],
        "GET /models/tiny": [Answer([versions[0]])],
        "GET /models/tiny/all": [Answer(sorted(versions, key=str))],
    } | {f"GET /models/tiny/{one['modelVersion']}": [Answer([one])] for one in versions}


@pytest.mark.parametrize(
    ("wanted", "changed"),
    [
        ({"workers": 2}, "2.0?min_worker=2&max_worker=2"),
        ({"workers": 1, "version": "1.0"}, "1.0?min_worker=1&max_worker=1"),
        ({"workers": 0, "version": "1.0", "force": True}, "1.0?min_worker=0&max_worker=0"),
    ],
)
def test_the_scale_command_sets_the_number_of_workers(
    wanted: dict[str, Any], changed: str, running: FakeTorchServe, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = f"PUT /models/tiny/{changed}&synchronous=false"
    running.answers = with_default("2.0", "1.0") | {change: [Answer({"status": "Processing worker updates..."}, 202)]}
    manage.scale(model="tiny", state=state, **wanted)
    assert [one for one in running.questions() if not one.startswith("GET ")] == [change]
    said = f"tiny {wanted.get('version', '2.0')} has {wanted['workers']} worker"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("code", ["IllegalStateException", "ConcurrentModificationException"])
def test_what_torchserve_left_half_done_is_asked_for_again(code: str, running: FakeTorchServe, state: Path) -> None:
    change = "PUT /models/tiny/2.0?min_worker=2&max_worker=2&synchronous=false"
    failed = Answer({"code": 500, "type": code, "message": "Deque full"}, 500)
    running.answers = with_default("2.0", "1.0") | {change: [failed, Answer({"status": "Processing..."}, 202)]}
    manage.scale(model="tiny", workers=2, state=state)
    assert running.questions().count(change) == 2
    running.answers[change] = [failed]
    with pytest.raises(UserError, match="Deque full"):
        manage.scale(model="tiny", workers=2, state=state)
    assert running.questions().count(change) == 4


def test_no_workers_at_all_only_by_force(running: FakeTorchServe, state: Path) -> None:
    running.answers = with_default("2.0")
    with pytest.raises(UserError, match=r"WORKERS=0 leaves nobody to answer for tiny 2\.0; pass FORCE=1"):
        manage.scale(model="tiny", workers=0, state=state)
    assert all(one.startswith("GET ") for one in running.questions())


@pytest.mark.parametrize("wait", [-1, 86_401])
def test_an_impossible_time_to_wait_is_refused(wait: int, running: FakeTorchServe, state: Path) -> None:
    running.answers = with_default("2.0", "1.0")
    for command in (partial(manage.scale, workers=1, version="1.0"), partial(manage.unregister, version="1.0")):
        with pytest.raises(UserError, match=f"WAIT={wait}: expected a number of seconds from 0 to 86400"):
            command(model="tiny", wait=wait, state=state)
    assert all(one.startswith("GET ") for one in running.questions())


@pytest.mark.parametrize(("asks", "why"), [
    ("waiting", r"3 requests wait for tiny 1\.0, and none of its workers is READY"),
    ("asked", r"tiny 1\.0 still gets requests, and TorchServe cannot refuse them"),
])  # fmt: skip
def test_a_version_that_has_or_gets_requests_is_only_removed_by_force(
    asks: str, why: str, running: FakeTorchServe, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answers = with_default("2.0", "1.0") | {"DELETE /models/tiny/1.0": [Answer({"status": "gone"})]}
    if asks == "waiting":
        running.answers["GET /models/tiny/1.0"] = [Answer([described("1.0", "UNLOADING", waiting=3)])]
    else:
        running.answers["GET /metrics"] = [metrics(number) for number in range(1000)]
    with pytest.raises(UserError, match=f"{why}.* with FORCE=1"):
        manage.unregister(model="tiny", version="1.0", wait=0, state=state)
    assert all(one.startswith("GET ") for one in running.questions())
    manage.unregister(model="tiny", version="1.0", wait=0, force=True, state=state)
    assert "requests may fail" in capsys.readouterr().err
    assert "DELETE /models/tiny/1.0" in running.questions()


def metrics(accepted: int) -> Answer:
    """A metrics page by which tiny 1.0, and another version that does not matter, have got requests."""
    lines = [
        f'ts_inference_requests_total{{model_name="tiny",model_version="{version}",hostname="here",}} {number}.0'
        for version, number in (("1.0", accepted), ("default", 7))
    ]
    return Answer("\n".join(lines).encode(), content_type="text/plain")


@pytest.mark.parametrize("workers", [-1, 1001, 9_999_999_999])
def test_an_impossible_number_of_workers_is_refused(workers: int, running: FakeTorchServe) -> None:
    with pytest.raises(UserError, match=f"WORKERS={workers}: expected a number from 0 to 1000"):
        manage.scale(model="tiny", workers=workers)
    assert running.questions() == []


def test_the_unregister_command_says_which_version_is_gone(
    running: FakeTorchServe, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TorchServe says that the model is unregistered, as if it were all of it."""
    running.answers = with_default("1.0", "2.0")
    running.answers["DELETE /models/tiny/2.0"] = [Answer({"status": 'Model "tiny" unregistered'})]
    manage.unregister(model="tiny", version="2.0", state=state)
    assert "tiny 2.0 is unregistered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("others", "refused"),
    [((), "2.0 is the last version of tiny; pass FORCE=1"), (("1.9", "1.10"), "2.0 is the default version, .*FORCE=1")],
)
def test_the_last_version_and_the_default_one_are_only_removed_by_force(
    others: tuple[str, ...], refused: str, running: FakeTorchServe, state: Path
) -> None:
    running.answers = with_default("2.0", *others)
    running.answers["DELETE /models/tiny/2.0"] = [Answer({"status": "gone"})]
    running.answers["PUT /models/tiny/1.10/set-default"] = [Answer({"status": "1.10 is the default"})]
    with pytest.raises(UserError, match=refused):
        manage.unregister(model="tiny", version="2.0", state=state)
    assert [one for one in running.questions() if not one.startswith("GET ")] == []
    manage.unregister(model="tiny", version="2.0", force=True, state=state)
    newest_first = ["PUT /models/tiny/1.10/set-default"] if others else []  # TorchServe removes no default version
    asked = [one for one in running.questions() if not one.startswith("GET ")]
    assert asked == [*newest_first, "DELETE /models/tiny/2.0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("default", "folder", "said"),
    [
        ("2.0", True, "make default MODEL=tiny VERSION=1.0"),
        ("2.0", False, "make default MODEL=tiny VERSION=1.0"),
        ("1.0", False, "tiny 1.0 is READY, and is the default, which answers"),
    ],
)
def test_the_register_command_says_how_to_make_it_the_default_or_that_it_is(
    default: str,
    folder: bool,
    said: str,
    archive: Path,
    state: Path,
    running: FakeTorchServe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running.answers = {**with_default(default), REGISTER: [REGISTERED], DESCRIBE: [READY]}
    manage.register_archive(str(archive) if folder else archive.name, state=state)
    shown = capsys.readouterr().out
    assert said in shown
    assert "1 worker; batches of up to 4, 1 ms for a batch to fill, 120 s for an answer, as the archive says" in shown


def test_the_register_command_sets_the_number_of_workers_that_torchserve_would_ignore(
    state: Path, running: FakeTorchServe, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Answer([described("1.0", "READY", "READY", minimum=2)])
    change = "PUT /models/tiny/1.0?min_worker=2&max_worker=2&synchronous=false"
    running.answers = {
        **with_default("1.0"),
        REGISTER: [REGISTERED],
        DESCRIBE: [READY, READY, two],
        change: [REGISTERED],
    }
    manage.register_archive("tiny", workers=2, state=state)
    assert [one for one in running.questions() if not one.startswith("GET ")] == [REGISTER, change]
    assert "2 workers as you asked; batches of up to 4" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [-1, 0, 1001])
def test_a_version_is_registered_with_a_possible_number_of_workers(workers: int, running: FakeTorchServe) -> None:
    with pytest.raises(UserError, match=f"WORKERS={workers}: expected a number from 1 to 1000"):
        manage.register_archive("tiny", workers=workers)
    assert running.questions() == []


def test_the_versions_command_shows_each_version_its_file_and_what_is_in_it(
    archive: Path, running: FakeTorchServe, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answers = with_default("1.0", "2.0")
    manage.versions(state=state)
    assert capsys.readouterr().out.splitlines() == [
        "  tiny 1.0  default since when, is not known  READY",
        f"    tiny-eager-1.0.mar  content {content_of(archive)[:12]}  weights tiny-trained",
        "  tiny 2.0  READY",
        "    tiny-eager-2.0.mar  the file is gone from the store",
    ]


def test_the_default_command_remembers_since_when_it_is(
    running: FakeTorchServe, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.answers = with_default("2.0", "1.0")
    running.answers["PUT /models/tiny/2.0/set-default"] = [Answer({"status": "as you wish"})]
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0)))
    manage.default(model="tiny", version="2.0", state=state)
    monkeypatch.undo()
    monkeypatch.setattr(manage, "running", lambda _: running.server)
    manage.default(model="tiny", version="2.0", state=state)  # again: it has been the default all the time
    manage.versions(model="tiny", state=state)
    said = capsys.readouterr().out
    assert "as you wish" in said
    assert "tiny 2.0  default since 2026-01-02 03:04 UTC  READY" in said
    running.answers = with_default("1.0", "2.0")  # somebody else changes it
    manage.versions(model="tiny", state=state)
    assert "tiny 1.0  default since when, is not known" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"tiny": 1}'])
def test_a_record_of_defaults_that_cannot_be_read_is_written_anew(
    content: str, client: Client, torchserve: FakeTorchServe, state: Path
) -> None:
    (state / "defaults.json").write_text(content)
    torchserve.answers = with_default("2.0", "1.0")
    versions.remember_defaults(client, state)
    assert json.loads((state / "defaults.json").read_text())["tiny"]["version"] == "2.0"


def test_the_describe_command_shows_what_the_model_says(
    running: FakeTorchServe, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answers["GET /models/tiny?customized=true"] = [Answer([{"customizedMetadata": {"classes": 10}}])]
    manage.describe(model="tiny")
    assert '"classes": 10' in capsys.readouterr().out
    running.answers["GET /models/tiny/2.0?customized=true"] = [Answer([{"customizedMetadata": {"classes": 20}}])]
    manage.describe(model="tiny", version="2.0")
    assert '"classes": 20' in capsys.readouterr().out


@pytest.mark.usefixtures("running")
def test_what_the_server_refuses_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"Model not found \(404 ModelNotFoundException\)"):
        manage.unregister(model="vgg16", version="9.0")


@pytest.mark.slow
def test_an_archive_outside_the_servers_store_is_refused(
    state: Path, options: Options, running: FakeTorchServe, tmp_path: Path
) -> None:
    """The server would load the file of that name from its own store, which is not the one that was verified."""
    elsewhere, _ = build(replace(options, store=tmp_path / "elsewhere"))
    running.answers = {REGISTER: [REGISTERED], DESCRIBE: [READY]}
    with pytest.raises(UserError, match=r"does not lie in the model store .*; copy it there first"):
        manage.register_archive(str(elsewhere), state=state)
    assert running.questions() == []


def test_the_register_command_takes_the_short_names_that_others_take(state: Path, running: FakeTorchServe) -> None:
    running.answers = {**with_default("1.0"), REGISTER: [REGISTERED], DESCRIBE: [READY]}
    manage.register_archive("tiny", state=state)
    assert running.questions()[:2] == [REGISTER, DESCRIBE]
