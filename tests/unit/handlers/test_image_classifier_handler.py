import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from classifier.errors import UnusableError
from classifier.pipeline import Classifier
from classifier.problems import MEDIA_TYPE
from classifier.request_log import RequestLog
from classifier.responses import JSON
from image_classifier_handler import ImageClassifierHandler
from numpy.typing import NDArray

from scripts.archives.format import Format

# TorchServe's package leaves its version file open when it is imported, so each test imports it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def test_what_computes_without_torch_does_not_import_it() -> None:
    code = """
import sys
import classifier, image_classifier_handler
from classifier import api, service
from classifier.runtimes import onnxruntime, openvino
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")))
"""
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def context_for(directory: Path, gpu: int | None = None) -> Any:
    """TorchServe's context, as a worker makes it when it loads an archive."""
    from ts.context import Context  # type: ignore[import-untyped] # ships no types

    return Context("tiny", str(directory), None, 4, gpu, "0.12.0")


def message(
    parameters: Mapping[str, object], headers: Mapping[str, str] | None = None, request_id: str = "id"
) -> dict[str, Any]:
    """A request as the front end sends it to a worker."""
    return {
        "requestId": request_id.encode(),
        "headers": [{"name": name.encode(), "value": value.encode()} for name, value in (headers or {}).items()],
        "parameters": [{"name": name, "contentType": "", "value": value} for name, value in parameters.items()],
    }


class Answer(msgspec.Struct, frozen=True):
    """What the front end is told about one row."""

    status: int
    phrase: str
    content_type: str
    content: Any

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert (self.content_type, self.content["status"]) == (MEDIA_TYPE, self.status)
        code: str = self.content["code"]
        return code


Ask = Callable[..., list[Answer]]


@pytest.fixture(scope="module")
def handler(tiny_folder: Path) -> ImageClassifierHandler:
    """A handler that serves the tiny archive."""
    served = ImageClassifierHandler()
    served.classifier = Classifier.load(tiny_folder)
    return served


@pytest.fixture
def ask(handler: ImageClassifierHandler, tiny_folder: Path) -> Ask:
    """Hand a batch of messages to the handler as a worker does."""
    from ts.service import Service  # type: ignore[import-untyped] # ships no types

    def handle(*messages: dict[str, Any]) -> list[Answer]:
        processors, rows, ids = Service.retrieve_data_for_inference(messages)
        context = context_for(tiny_folder)
        context.request_processor, context.request_ids = processors, ids
        bodies = handler.handle(rows, context)
        assert isinstance(bodies, list)
        assert len(bodies) == len(messages)
        assert {type(body) for body in bodies} == {bytes}  # what TorchServe passes on as it is
        statuses = [context.get_response_status(index) for index in range(len(bodies))]
        types = [context.get_response_content_type(index) for index in range(len(bodies))]
        return [
            Answer(status, phrase, content_type, json.loads(body))
            for (status, phrase), content_type, body in zip(statuses, types, bodies, strict=True)
        ]

    return handle


def instances(*images: bytes) -> dict[str, Any]:
    return {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}


def test_an_archive_is_verified_loaded_and_warmed_up(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[Classifier] = []
    monkeypatch.setattr(Classifier, "warm_up", lambda self: warmed.append(self))
    served = ImageClassifierHandler()
    served.initialize(context_for(shutil.copytree(tiny_folder, tmp_path / "tiny")))
    assert served.classifier.identity.model.name == "tiny"
    assert warmed == [served.classifier]


def test_requests_are_logged_with_the_clients_own_ids_where_the_server_says_so(
    tiny_folder: Path, ask: Ask, handler: ImageClassifierHandler, cat: bytes, tmp_path: Path
) -> None:
    headers = {"X-Request-ID": "mine", "Traceparent": "00-1-2-01"}
    with closing(RequestLog(tmp_path, "json", handler.classifier.identity.model)) as log:
        handler.log = log
        ask(message({"body": cat}, headers, request_id="one"), message({"body": b"no picture"}, request_id="two"))
        handler.log = None
    first, second = (json.loads(line) for line in (tmp_path / "requests.0.log").read_text().splitlines())
    assert [first[name] for name in ("request_id", "client_request_id", "traceparent", "status", "bytes")] == [
        "one", "mine", "00-1-2-01", 200, len(cat)
    ]  # fmt: skip
    assert [second[name] for name in ("request_id", "status", "code")] == ["two", 415, "not_an_image"]
    assert first["compute_ms"] > 0


@pytest.mark.parametrize("name", ["tiny.pth", "recipe.yaml", "classifier/decode.py"])
def test_an_archive_that_was_tampered_with_is_not_served(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "tiny")
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(RuntimeError, match=f"tiny.*{name}"):
        ImageClassifierHandler().initialize(context_for(copy))


def test_an_archive_with_an_added_file_is_not_served(tiny_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "tiny")
    (copy / "numpy.py").touch()
    with pytest.raises(RuntimeError, match=r"numpy\.py"):
        ImageClassifierHandler().initialize(context_for(copy))


@pytest.mark.parametrize("error", [UnusableError("x.yaml: crop"), FileNotFoundError(2, "no", "x"), KeyError("x")])
def test_whatever_fails_in_loading_is_an_error_that_torchserve_knows(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr(Classifier, "load", load)
    with pytest.raises(RuntimeError, match=r"cannot serve tiny: .*x"):
        ImageClassifierHandler().initialize(context_for(tiny_folder))


def test_a_model_that_fails_in_warming_up_is_not_served(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "isfinite", np.zeros_like)
    with pytest.raises(RuntimeError, match="cannot serve tiny"):
        ImageClassifierHandler().initialize(context_for(tiny_folder))


@pytest.mark.parametrize(
    ("gpu", "available", "device"), [(None, True, "cpu"), (0, False, "cpu"), (0, True, "cuda:0"), (1, True, "cuda:1")]
)
def test_the_device_is_the_gpu_that_torchserve_assigned(
    tiny: Classifier,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpu: int | None,
    available: bool,
    device: str,
) -> None:
    devices: list[str] = []

    def load(_: Path, where: str) -> Classifier:
        devices.append(where)
        return tiny

    monkeypatch.setattr(Classifier, "load", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    ImageClassifierHandler().initialize(context_for(tiny_folder, gpu))
    assert devices == [device]


@pytest.mark.parametrize("key", ["body", "data", "file"])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_picture_may_be_the_body_or_a_form_field(ask: Ask, cat: bytes, key: str, kind: type[bytes]) -> None:
    (answer,) = ask(message({key: kind(cat)}))
    assert (answer.status, answer.phrase, answer.content_type) == (200, "OK", JSON)
    assert len(answer.content["predictions"]) == 5
    assert answer.content["model"]["name"] == "tiny"


def test_json_may_come_decoded_or_as_bytes(ask: Ask, cat: bytes, coffee: bytes) -> None:
    body = instances(cat, b"a cat", coffee)
    decoded, raw = ask(message({"body": body}), message({"body": bytearray(json.dumps(body).encode())}))
    assert decoded == raw
    assert [item.get("code") for item in decoded.content["instances"]] == [None, "not_an_image", None]


def test_what_the_client_calls_json_is_read_as_json(ask: Ask, cat: bytes) -> None:
    json_type = {"Content-Type": "application/json"}
    empty, good, picture = ask(
        message({"body": bytearray(b"[]")}, json_type),
        message({"body": instances(cat)}, json_type),
        message({"body": bytearray(cat)}, {"Content-Type": "image/png"}),
    )
    assert empty.code == "bad_json"
    assert (good.status, picture.status) == (200, 200)


def test_every_row_of_a_mixed_batch_gets_its_own_status_type_and_answer(ask: Ask, cat: bytes, coffee: bytes) -> None:
    answers = ask(
        message({"body": bytearray(cat)}),
        message({"body": bytearray(b"%PDF-1.7")}),
        message({}, {"describe": "True"}),
        message({"data": bytearray(coffee)}),
        message({"body": bytearray(cat)}, {"explain": "True"}),
        message({"file": bytearray(cat[:1000])}),
        message({}),
        message({"body": bytearray(b'{"instances": [{"b64": "\xff"}]}')}),
        message({"body": bytearray(cat)}, {"X-Top-K": "11"}),
        message({"body": instances(coffee, cat)}),
    )
    assert [answer.status for answer in answers] == [200, 415, 200, 200, 200, 422, 400, 400, 400, 200]
    problems = {1: "not_an_image", 5: "image_broken", 6: "empty_body", 7: "bad_json"}
    problems[8] = "bad_parameter"
    assert {index: answer.code for index, answer in enumerate(answers) if answer.status != 200} == problems
    assert {answer.content_type for answer in answers if answer.status == 200} == {JSON}
    assert answers[2].content["classes"] == 10
    assert answers[4].content["method"] == "grad_cam"
    assert answers[1].phrase == "Unsupported Media Type"
    alone = [ask(message({"body": picture}))[0].content["probability"] for picture in (cat, coffee)]
    together = [answers[index].content["probability"] for index in (0, 3)]
    in_json = [item["probability"] for item in answers[9].content["instances"]]
    assert alone[0] != pytest.approx(alone[1], abs=1e-4)
    assert together == pytest.approx(alone, abs=1e-6)
    assert in_json == pytest.approx(alone[::-1], abs=1e-6)


def test_explanations_that_fail_change_nothing_for_their_neighbours(
    ask: Ask, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no gradient today")

    monkeypatch.setattr("classifier.explain._evidence", fail)
    explained, predicted, unknown = ask(
        message({"body": bytearray(cat)}, {"explain": "True"}),
        message({"body": bytearray(cat)}),
        message({"body": bytearray(cat)}, {"explain": "True", "X-Target": "no such class"}),
    )
    assert (explained.status, explained.code) == (500, "internal")
    assert "gradient" not in explained.content["detail"]
    assert predicted.status == 200
    assert unknown.code == "bad_parameter"


@pytest.mark.parametrize("name", ["Explain", "EXPLAIN", "explaiN"])
def test_only_torchserves_own_mark_asks_for_an_explanation(ask: Ask, cat: bytes, name: str) -> None:
    """A client may send the same name in another case; it arrives beside TorchServe's, in any order."""
    answers = ask(
        message({"body": cat}, {name: "True"}),
        message({"body": cat}, {name: "True", "explain": "False"}),
        message({"body": cat}, {"explain": "False", name: "True"}),
        message({"body": cat}, {name: "False", "explain": "True"}),
        message({"body": cat}, {"explain": "True", name: "False"}),
    )
    assert ["method" in answer.content for answer in answers] == [False, False, False, True, True]
    assert {answer.status for answer in answers} == {200}


def test_a_field_with_the_name_of_a_parameters_header_is_refused(ask: Ask, cat: bytes) -> None:
    """TorchServe puts it among the headers as well; the answer is the one that the contract's tests have always had."""
    (answer,) = ask(message({"data": cat, "X-Top-K": bytearray(b"2")}, {"Content-Length": "5"}))
    assert (answer.status, answer.content["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize("name", ["explain", "describe", "Accept"])
def test_a_field_of_a_form_is_no_header(ask: Ask, cat: bytes, name: str) -> None:
    (answer,) = ask(message({"data": cat, name: b"True"}, {"Content-Length": "5"}))
    assert len(answer.content["predictions"]) == 5


def test_a_worker_rests_on_a_describe_call_only_if_it_has_no_other_request(
    ask: Ask, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client can put that header on a prediction, which TorchServe mixes with those of others."""
    rests: list[Path] = []
    monkeypatch.setattr(sys.modules[ImageClassifierHandler.__module__], "wait_while_held", rests.append)
    ask(message({"body": cat}))
    ask(message({"body": cat}), message({}, {"describe": "True"}))
    assert rests == []
    ask(message({}, {"describe": "True"}))
    assert rests == [Path(tempfile.gettempdir())]


def test_a_batch_of_describe_calls_needs_no_picture(ask: Ask) -> None:
    answers = ask(message({}, {"describe": "True"}), message({}, {"describe": "True"}))
    assert [answer.content["model"]["version"] for answer in answers] == ["1.0", "1.0"]


@pytest.mark.parametrize("name", ["X-Top-K", "x-top-k", "X-TOP-K"])
def test_top_k_may_come_as_a_header_in_any_case(ask: Ask, cat: bytes, name: str) -> None:
    three, default = ask(message({"body": cat}, {name: "3"}), message({"body": cat}))
    assert len(three.content["predictions"]) == 3
    assert len(default.content["predictions"]) == 5


@pytest.mark.parametrize("value", [b"2", bytearray(b"2"), "2", 2])
def test_top_k_may_come_as_a_form_field(ask: Ask, cat: bytes, value: object) -> None:
    (answer,) = ask(message({"data": cat, "top_k": value}))
    assert len(answer.content["predictions"]) == 2


def test_a_form_field_counts_more_than_a_header(ask: Ask, cat: bytes) -> None:
    (answer,) = ask(message({"data": cat, "top_k": b"2"}, {"X-Top-K": "3"}))
    assert len(answer.content["predictions"]) == 2


@pytest.mark.parametrize("value", [b"\xff", b"", b"two", {"2": 2}, [2], None])
def test_any_other_top_k_is_refused_for_its_row_alone(ask: Ask, cat: bytes, value: object) -> None:
    refused, good = ask(message({"data": cat, "top_k": value}), message({"data": cat}))
    assert refused.code == "bad_parameter"
    assert good.status == 200


def test_a_failing_model_is_a_500_of_its_rows_and_not_of_the_batch(
    handler: ImageClassifierHandler,
    ask: Ask,
    cat: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def forward(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("CUDA error in /secret")

    broken = msgspec.structs.replace(handler.classifier, forward=forward)
    monkeypatch.setattr(handler, "classifier", broken)
    answers = ask(message({"body": cat}, request_id="7f3a"), message({"body": b""}), message({}, {"describe": "True"}))
    assert [answer.status for answer in answers] == [500, 400, 200]
    assert answers[0].code == "internal"
    assert "secret" not in json.dumps(answers[0].content)
    assert "7f3a" in caplog.text


def test_torchserve_finds_the_one_class_of_the_module(tiny_folder: Path, cat: bytes) -> None:
    from ts.model_loader import TsModelLoader  # type: ignore[import-untyped] # ships no types

    service = TsModelLoader().load("tiny", str(tiny_folder), "image_classifier_handler.py", None, 4)
    rows: Sequence[Mapping[str, object]]
    service.context.request_processor, rows, service.context.request_ids = service.retrieve_data_for_inference(
        [message({"body": cat})]
    )
    (body,) = service._entry_point(rows, service.context)
    assert json.loads(body)["model"]["name"] == "tiny"


def test_a_torchscript_archive_is_served_by_the_same_handler(
    tiny_archive: Callable[[str, Format], Path], ask: Ask, cat: bytes, handler: ImageClassifierHandler
) -> None:
    served = ImageClassifierHandler()
    served.initialize(context_for(tiny_archive("torchscript", "no-archive")))
    model = served.classifier.identity.model
    assert (model.version, model.runtime) == ("2.0", "torchscript")
    (eager,) = ask(message({"body": cat}))
    (result,) = served.classifier.classify([cat], [1])
    assert isinstance(result, list)
    assert result[0].probability == pytest.approx(eager.content["probability"], abs=1e-6)


def test_an_answer_over_grpc_says_that_it_is_the_last_of_its_stream(
    handler: ImageClassifierHandler, tiny_folder: Path, cat: bytes
) -> None:
    """Without it a call of StreamPredictions costs the worker its life. With it an answer over HTTP has no head."""
    from ts.service import Service

    messages = [
        message({"data": cat}),
        message({"body": cat}, {"Content-Length": "5"}),
        message({"data": cat, "content-length": b"5"}),  # of gRPC too: what looks like a header is a field
    ]
    context = context_for(tiny_folder)
    context.request_processor, rows, context.request_ids = Service.retrieve_data_for_inference(messages)
    handler.handle(rows, context)
    assert [context.get_response_headers(index).get("ts_stream_next") for index in range(3)] == [
        "false",
        None,
        "false",
    ]


@pytest.mark.parametrize("said", [None, "stock"])
def test_the_server_says_the_form_of_the_answers_in_its_environment(
    said: str | None,
    handler: ImageClassifierHandler,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    cat: bytes,
) -> None:
    monkeypatch.setattr(Classifier, "warm_up", lambda _: None)
    monkeypatch.setattr(handler, "answers", None)
    if said is not None:
        monkeypatch.setenv("CLASSIFIER_ANSWERS", said)
    handler.initialize(context_for(tiny_folder))
    by_body, by_form = ask(message({"body": cat}), message({"data": cat}))
    assert ("predictions" in by_body.content) == (said is None)
    assert by_body.content == by_form.content
    (full,) = ask(message({"body": cat}, {"X-Answers": "full"}))
    assert "predictions" in full.content


def test_a_form_that_does_not_exist_keeps_an_archive_from_being_served(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "warm_up", lambda _: None)
    monkeypatch.setenv("CLASSIFIER_ANSWERS", "short")
    with pytest.raises(RuntimeError, match="CLASSIFIER_ANSWERS=short: expected full or stock"):
        ImageClassifierHandler().initialize(context_for(tiny_folder))


@pytest.mark.parametrize("names", [("data", "data"), ("data", "file"), ("body", "data"), ("file", "file", "data")])
def test_a_form_with_several_pictures_is_refused_and_its_neighbours_are_not(
    ask: Ask, tiny_folder: Path, cat: bytes, names: tuple[str, ...]
) -> None:
    """TorchServe itself keeps the last part of a name, so the handler makes it keep them all."""
    ImageClassifierHandler().initialize(context_for(tiny_folder))
    several = message({})
    several["parameters"] = [{"name": name, "contentType": "image/png", "value": bytearray(cat)} for name in names]
    alone, refused, chosen = ask(message({"body": cat}), several, message({"data": cat, "file": b""}))
    assert (refused.status, refused.code) == (400, "several_pictures")
    assert alone.status == chosen.status == 200
    assert alone.content == chosen.content


@pytest.mark.parametrize("name", ["top_k", "answers"])
def test_of_two_values_of_a_parameter_none_is_taken_in_silence(
    ask: Ask, tiny_folder: Path, cat: bytes, name: str
) -> None:
    ImageClassifierHandler().initialize(context_for(tiny_folder))
    asked = message({"data": cat})
    value = bytearray(b"2" if name == "top_k" else b"full")
    asked["parameters"] += [{"name": name, "contentType": "", "value": value}] * 2
    (refused,) = ask(asked)
    assert (refused.status, refused.code) == (400, "bad_parameter")


def test_what_grpcs_model_infer_is_answered_has_the_fields_that_torchserve_needs(ask: Ask, cat: bytes) -> None:
    """tests/integration/test_model_infer_7070.py asks the real service."""
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(cat).decode()]}
    needed = {"id", "model_name", "model_version", "outputs"}
    for content, status in (({"inputs": [tensor]}, 200), ({"inputs": []}, 400), ({"inputs": [tensor] * 2}, 400)):
        asked = message({"body": json.dumps(content).encode()})
        asked["parameters"][0]["contentType"] = JSON
        (found,) = ask(asked)
        assert needed <= found.content.keys()
        (over_http,) = ask(asked | {"headers": [{"name": b"content-length", "value": b"9"}]})
        assert over_http.status == status
        assert (needed <= over_http.content.keys()) == (status == 200)
