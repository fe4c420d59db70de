"""The pages about clusters and clouds against what they speak of."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from classifier import v2
from classifier.identity import Model
from classifier.json_body import read_body
from classifier.problems import NotAnImage
from classifier.rank import Prediction
from classifier.responses import JSON

from scripts.command_line.verbs import SECTIONS
from scripts.shipping.validate import OVERLAYS, VERSIONS
from scripts.torchserve.config import addresses, read_config

ROOT = Path(__file__).parents[4]
PAGES = [ROOT / "kubernetes/README.md", ROOT / "kubernetes/kserve/README.md", ROOT / "docs/cloud.md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_commands_name_what_there_is(page: Path) -> None:
    text = page.read_text()
    targets = {target.name for _, found in SECTIONS for target in found}
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for folder in re.findall(r"-[kf] (kubernetes/[\w/.-]+)", text):
        assert (ROOT / folder).exists(), folder


def test_the_versions_and_folders_are_those_that_are_validated() -> None:
    text = PAGES[0].read_text()
    assert set(re.findall(r"\b1\.\d\d\b", text)) == set(VERSIONS)
    for overlay in OVERLAYS:
        assert f"| `{overlay}" in text, overlay


def test_the_ports_of_the_cloud_page_are_those_of_the_configuration() -> None:
    ports = addresses(read_config(ROOT / "config.properties")).ports()
    rows = dict(
        re.findall(r"^\| ([\d, ]+) \| (inference|metrics|exporter|management)", PAGES[2].read_text(), re.MULTILINE)
    )
    assert {number: kind for numbers, kind in rows.items() for number in map(int, numbers.split(","))} == {
        ports[name]: name.removeprefix("grpc_") for name in ports
    }


def test_the_example_of_the_protocol_is_what_is_answered() -> None:
    asked, answered = re.findall(r"```json\n(.*?)```", PAGES[1].read_text(), re.DOTALL)
    request = read_body(asked.encode(), JSON, 2).infer
    assert request is not None
    expected = json.loads(answered)
    cat = [Prediction("n02124075", "Egyptian cat", 0.377), Prediction("n02123159", "tiger cat", 0.377)]
    model = Model(name=expected["model_name"], version=expected["model_version"], **expected["parameters"])
    content = msgspec.to_builtins(v2.response_to(request, 2, [cat, NotAnImage("no decoder knows it")], model))
    problem = json.loads(content["outputs"][3]["data"][1])
    said = json.loads(expected["outputs"][3]["data"].pop())
    assert said.items() <= problem.items()
    content["outputs"][3]["data"].pop()
    assert content == expected
