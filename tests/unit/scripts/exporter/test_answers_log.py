import shutil
from contextlib import closing
from pathlib import Path

import pytest

from scripts.exporter.answers_log import Answer, AnswersLog

WORKER = "W-9000-tiny_1.0"
FRONT_END = "epollEventLoopGroup-3-1"


def answered(path: str, status: int = 200, milliseconds: int = 12, thread: str = WORKER, method: str = "POST") -> str:
    return f'{thread} /127.0.0.1:40104 "{method} {path} HTTP/1.1" {status} {milliseconds}\n'


def waited(queue: int, thread: str = WORKER, by: str = "Backend") -> str:
    return f"{thread} Waiting time ns: {queue}, {by} time ns: 9876\n"


def written(folder: Path, *lines: str) -> list[Answer]:
    path = folder / "answers.log"
    path.write_text("".join(lines))
    with closing(AnswersLog(path)) as log:
        return list(log.read())


def test_the_two_lines_of_a_workers_answer_are_one(tmp_path: Path) -> None:
    (found,) = written(tmp_path, answered("/predictions/tiny"), waited(2_500_000))
    assert found == Answer(
        entrance="http",
        wants="prediction",
        path=("tiny", ""),
        worker="tiny_1.0",
        status=200,
        seconds=0.012,
        queue_s=0.0025,
    )


def test_lines_of_two_workers_do_not_mix(tmp_path: Path) -> None:
    other = "W-9001-tiny_2.0"
    lines = [
        answered("/predictions/tiny"),
        answered("/predictions/tiny", thread=other),
        waited(1_000_000, thread=other),
        waited(2_000_000),
    ]
    assert [(found.worker, found.queue_s) for found in written(tmp_path, *lines)] == [
        ("tiny_2.0", 0.001),
        ("tiny_1.0", 0.002),
    ]


def test_what_the_front_end_answers_by_itself_waited_for_no_worker(tmp_path: Path) -> None:
    (found,) = written(tmp_path, answered("/predictions/none", 404, 1, FRONT_END))
    assert (found.worker, found.status, found.queue_s) == ("", 404, None)


def test_the_answer_in_place_of_a_worker_that_died_is_not_its_own(tmp_path: Path) -> None:
    (found,) = written(tmp_path, answered("/predictions/tiny", 503), waited(1, by="Inference"))
    assert (found.worker, found.status, found.queue_s) == ("tiny_1.0", 503, None)


def test_an_answer_without_its_second_line_comes_with_the_next_one_of_its_thread(tmp_path: Path) -> None:
    found = written(tmp_path, answered("/predictions/tiny", 503), answered("/predictions/tiny"), waited(0))
    assert [(answer.status, answer.queue_s) for answer in found] == [(503, None), (200, 0.0)]


def test_or_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / "answers.log"
    path.write_text(answered("/predictions/tiny", 503))
    with closing(AnswersLog(path)) as log:
        assert [len(list(log.read())) for _ in range(4)] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("path", "wants", "named"),
    [
        ("/predictions/tiny", "prediction", ("tiny", "")),
        ("/predictions/tiny/1.0?top_k=3", "prediction", ("tiny", "1.0")),
        ("/predictions/a%20b/1.0", "prediction", ("a b", "1.0")),
        ("/explanations/tiny", "explanation", ("tiny", "")),
        ("/models/tiny/invoke", "prediction", ("tiny", "")),
        ("/v1/models/tiny:predict", "prediction", ("tiny", "")),
        ("/v1/models/tiny/versions/1.0:explain", "explanation", ("tiny", "1.0")),
        ("/v2/models/tiny/versions/1.0/infer", "prediction", ("tiny", "1.0")),
        ('/predict/"tiny"', "other", ("", "")),
        ("/", "other", ("", "")),
    ],
)
def test_the_path_says_what_was_asked_of_which_model(
    tmp_path: Path, path: str, wants: str, named: tuple[str, str]
) -> None:
    (found,) = written(tmp_path, answered(path, 404, 1, FRONT_END))
    assert (found.wants, found.path) == (wants, named)


@pytest.mark.parametrize(
    "path", ["/ping", "/models", "/models/tiny/all", "/metrics?name=x", "/token", "/v2/health/live"]
)
def test_questions_about_the_server_do_not_count(tmp_path: Path, path: str) -> None:
    assert written(tmp_path, answered(path, 200, 1, FRONT_END, "GET")) == []


def test_grpc_is_told_from_http_and_its_other_calls_do_not_count(tmp_path: Path) -> None:
    service = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
    call = f'{{thread}} null "gRPC {service}/{{name}} HTTP/2.0" {{status}} 5\n'
    (found, refused) = written(
        tmp_path,
        call.format(thread=WORKER, name="Predictions", status=0),
        waited(3_000_000),
        call.format(thread="grpc-default-executor-0", name="Ping", status=0),
        call.format(thread="grpc-default-executor-0", name="StreamPredictions", status=5),
    )
    assert (found.entrance, found.wants, found.worker, found.status, found.queue_s) == (
        "grpc", "prediction", "tiny_1.0", 0, 0.003,
    )  # fmt: skip
    assert (refused.entrance, refused.status, refused.queue_s) == ("grpc", 5, None)


def test_lines_that_it_does_not_know_are_no_answers(tmp_path: Path) -> None:
    assert written(tmp_path, "main Waiting for something\n", "\n", waited(1), "x" * 100_000 + "\n") == []


def test_it_goes_on_where_it_was_with_half_lines_and_renamed_files(tmp_path: Path) -> None:
    path, line = tmp_path / "answers.log", answered("/predictions/none", 404, 1, FRONT_END)
    with closing(AnswersLog(path)) as log:
        assert list(log.read()) == []  # it is not there yet
        path.write_text(line + line[:20])
        assert len(list(log.read())) == 1
        with path.open("a") as more:
            more.write(line[20:])
            assert list(log.read()) == []  # still in the writer's memory
        assert len(list(log.read())) == 1
        with path.open("a") as more:
            more.write(line)
        shutil.move(path, tmp_path / "answers.1.log")
        assert len(list(log.read())) == 1  # the renamed one's last line, and no new file yet
        path.write_text(line * 3)
        assert len(list(log.read())) == 3


def test_it_goes_on_when_somebody_has_emptied_the_file_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, line = tmp_path / "answers.log", answered("/predictions/none", 404, 1, FRONT_END)
    path.write_text(line * 9 + line[:20])
    with closing(AnswersLog(path)) as log:
        assert len(list(log.read())) == 9
        path.write_text("")
        assert list(log.read()) == []
        assert "answers.log has been cut off" in capsys.readouterr().err
        path.write_text(line)
        assert len(list(log.read())) == 1
    assert capsys.readouterr().err == ""
