"""The README's commands, run as they stand there, top to bottom, on ports and a state folder of the test's own."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
import timm
import torch
from mktestdocs.__main__ import grab_code_blocks

from scripts.building.golden import photograph
from scripts.command_line.verbs import SECTIONS
from scripts.torchserve.config import Addresses, addresses, read_config, with_free_ports, write_config
from scripts.torchserve.server import find
from tests.integration.conftest import CHECKOUT, STORE, make

README = CHECKOUT / "README.md"
DEADLINE_S = 900
# What the section on one's own model writes.
OWN_MODEL = ("handlers/my_model.py", "recipes/my_model.yaml", "my_labels.txt", "my_weights.pth")

# The commands in `sh` blocks that are not run here, and why.
NOT_RUN = {"make test": "this test is part of it"}


def commands() -> str:
    blocks = grab_code_blocks(README.read_text(), lang="sh")
    lines = [line for block in blocks for line in block.strip().splitlines()]
    return "\n".join(line for line in lines if line not in NOT_RUN)


def on_own_ports(script: str, own: Addresses) -> str:
    """The script with the standard ports replaced."""
    standard = addresses(read_config(CHECKOUT / "config.properties")).ports()
    for name, port in own.ports().items():
        script = script.replace(f"localhost:{standard[name]}", f"localhost:{port}")
    return script


def test_every_command_of_the_readme_works_from_top_to_bottom(tmp_path: Path) -> None:
    config = with_free_ports(read_config(CHECKOUT / "config.properties"))
    write_config(config, tmp_path / "config.properties")
    state = tmp_path / "state"
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    # as if each command had them on its command line
    environment["MAKEFLAGS"] = f"STATE={state} CONFIG={tmp_path / 'config.properties'} KEYS={tmp_path / 'signing'}"
    # `make demo` leaves its server running, as it should; the tour then starts another
    script = commands().replace("make demo\n", f"make demo\nmake stop\nrm -r {state}\n")
    script = script.replace("signing/public.pem", str(tmp_path / "signing" / "public.pem"))
    try:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", on_own_ports(script, addresses(config))],  # noqa: S607
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        assert find(state) is None
    finally:
        subprocess.run(["make", "stop"], cwd=CHECKOUT, env=environment, check=True)  # noqa: S607
        for name in OWN_MODEL:
            (CHECKOUT / name).unlink(missing_ok=True)
        for path in STORE.glob("*my_model*"):
            path.unlink()
        (STORE / "efficientnet_lite0-eager-1.0.mar.sig").unlink(missing_ok=True)
    said = result.stdout
    assert "a dog" in said  # the own model's classes
    assert re.search(r"efficientnet_lite0-eager-1\.0\.mar\.sig by key", said)
    assert "Egyptian cat" in said  # the demo's table
    assert '{"class":' in said
    assert "vgg16 2.0 is READY" in said
    assert '"openapi"' in said
    assert "ts_inference_requests_total" in said


@pytest.mark.thorough  # the README's own model goes the same way in `make test`
def test_the_first_recipe_of_its_page_is_built_by_the_commands_below_it(tmp_path: Path) -> None:
    page = (CHECKOUT / "recipes" / "README.md").read_text()
    weights, recipe = CHECKOUT / "flowers.pth", CHECKOUT / "recipes" / "flowers.yaml"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    recipe.write_text(grab_code_blocks(page, lang="yaml")[0].replace("0" * 64, digest))
    environment = {key: value for key, value in os.environ.items() if key != "MAKELEVEL"}
    try:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(grab_code_blocks(page, lang="sh"))],  # noqa: S607
            cwd=CHECKOUT,
            env=environment | {"MAKEFLAGS": f"STORE={tmp_path / 'store'}"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        recipe.unlink()
        weights.unlink()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert re.search(r"flowers-eager.*100\.0%", result.stdout)
    assert re.search(r"flowers-openvino.*100\.0%", result.stdout)


def test_the_python_of_its_page_does_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make("archive", "MODEL=efficientnet_lite0", "RUNTIME=openvino").returncode == 0
    monkeypatch.chdir(CHECKOUT)
    (block,) = grab_code_blocks((CHECKOUT / "docs" / "python.md").read_text(), lang="python")
    exec(block.replace("cat.jpg", str(photograph("chelsea.png"))), {})  # noqa: S102 - the README's own code
    assert capsys.readouterr().out == "Egyptian cat\n"


def test_the_readme_names_every_target_and_no_other() -> None:
    targets = {target.name for _, found in SECTIONS for target in found}
    (table,) = re.findall(r"<!-- reference: .*?-->\n(.*?)<!-- /reference -->", README.read_text(), re.DOTALL)
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)} == targets


def test_every_problem_code_is_documented() -> None:
    from classifier.problems import Problem

    text = (CHECKOUT / "docs" / "http.md").read_text()
    for problem in Problem.__subclasses__():
        assert re.search(rf"^\| {problem.status} \|.*`{problem.code}`", text, re.MULTILINE), problem.code


def test_every_folder_of_scripts_is_listed() -> None:
    text = (CHECKOUT / "scripts/README.md").read_text()
    folders = {path.parent.relative_to(CHECKOUT / "scripts") for path in (CHECKOUT / "scripts").rglob("[a-z]*.py")}
    modules = [path.stem for path in (CHECKOUT / "scripts").glob("[a-z]*.py")]
    for name in (*modules, *(f"{folder}/" for folder in folders - {Path()})):
        assert f"`{name}`" in text, name
