import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scripts.adopting.programs import Taken, taken_of
from scripts.console import UserError
from tests.unit.scripts.adopting.conftest import Project

ASSUMED = ("crop", "fit", "interpolation", "channels", "normalization")


class Fixed(nn.Module):
    """Takes pictures of one size alone, as transformers do, and perhaps of one batch."""

    def __init__(self, last: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        self.fc = nn.Linear(28 * 28, 4)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        if self.last:
            x = x.permute(0, 3, 1, 2)
        logits: Tensor = self.fc(self.conv(x).flatten(1)) * 30
        return logits


def test_a_torchscript_program_of_any_size_has_its_input_assumed(project: Project) -> None:
    recipe = project.adopt(project.traced(project.net()))
    assert recipe.program is not None
    assert recipe.program.startswith("torchscript:../net.pt#sha256=")
    text = project.text("net")
    for field in ASSUMED:
        before = text.partition(f"\n  {field}:")[0]
        assert before.splitlines()[-1].startswith("  # Assumed: "), field


def test_the_one_size_that_a_torchscript_program_takes_is_found(project: Project) -> None:
    project.adopt(project.traced(Fixed().eval(), (2, 3, 28, 28)))
    assert project.raw("net")["input"]["crop"] == 28
    assert "# Assumed: the usual size" not in project.text("net")


def test_grey_channels_last_is_found(project: Project) -> None:
    recipe = project.adopt(project.traced(Fixed(last=True, channels=1).eval(), (2, 28, 28, 1)))
    assert (recipe.input.layout, recipe.input.channels, recipe.input.size) == ("nhwc", "grey", (28, 28))
    assert recipe.input.normalization.std == 1.0  # type: ignore[union-attr]
    assert "# Assumed: levels from 0 to 1" in project.text("net")


@pytest.mark.parametrize(
    ("form", "outputs"), [("tuple", 2), ("{'features': x, 'shares': y}", 2), ("{'features': x, 'logits': y}", 1)]
)
def test_of_several_outputs_the_first_is_assumed_unless_one_is_called_logits(
    project: Project, form: str, outputs: int
) -> None:
    net = project.net()

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pictures: Tensor) -> object:
            x, y = pictures.mean((2, 3)), self.net(pictures)
            return (x, y) if form == "tuple" else {"features": x, "logits" if "logits" in form else "shares": y}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(Several(), torch.zeros(2, 3, 32, 32), check_trace=False, strict=False)
    program.save(project.folder / "several.pt")
    recipe = project.adopt(project.folder / "several.pt")
    assert len(recipe.labels) == (3 if outputs > 1 else 5)
    said = f"# Assumed: the logits are the first of its {outputs} outputs"
    assert (said in project.text("several")) == (outputs > 1)


def test_a_fixed_batch_is_found(project: Project) -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).reshape(1, 3)

    assert project.adopt(project.traced(One(), (1, 3, 32, 32))).input.batch == 1


@pytest.mark.parametrize("size", [3, 4, 16])
def test_a_batch_of_several_that_a_torchscript_program_is_fixed_to_is_found(project: Project, size: int) -> None:
    class Four(Fixed):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.conv(x).view(size, -1)) * 30
            return logits

    recipe = project.adopt(project.traced(Four().eval(), (size, 3, 28, 28)))
    assert (recipe.input.batch, recipe.input.size) == (size, (28, 28))


def test_a_program_of_torch_export_of_one_batch_has_it_in_its_recipe(project: Project) -> None:
    path = project.folder / "net.pt2"
    torch.export.save(torch.export.export(Fixed().eval(), (torch.zeros(4, 3, 28, 28),)), path)
    assert project.adopt(path).input.batch == 4


def test_a_program_that_takes_no_pictures_is_refused(project: Project) -> None:
    with pytest.raises(UserError, match="computes on no picture of 224, 256, 299"):
        project.adopt(project.traced(nn.Linear(7, 2), (2, 7)))


def test_another_recipe_says_how_pictures_are_prepared(project: Project) -> None:
    (project.recipes / "other.yaml").write_text(
        "name: other\narchitecture: net\nweights: a-01234567.pth\nlabels: [a]\n"
        "input: {normalization: half, interpolation: bicubic, resize: 300}\n"
    )
    recipe = project.adopt(project.traced(Fixed().eval(), (2, 3, 28, 28)), like="other")
    assert recipe.input.normalization == "half"
    assert recipe.input.size == (28, 28)
    assert project.raw("net")["input"] == {"crop": 28, "interpolation": "bicubic", "normalization": "half"}


@pytest.mark.slow
def test_a_program_of_torch_export_tells_its_input(project: Project) -> None:
    path = project.folder / "net.pt2"
    torch.export.save(torch.export.export(project.net(), (torch.zeros(1, 3, 32, 48),)), path)
    recipe = project.adopt(path)
    assert recipe.program is not None
    assert recipe.program.startswith("export:../net.pt2#sha256=")
    assert (recipe.input.size, recipe.input.batch) == ((32, 48), 1)
    batch = torch.export.Dim("batch")
    program = torch.export.export(project.net(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    assert project.adopt(path, force=True).input.batch is None


def test_a_program_has_its_own_weights(project: Project) -> None:
    path = project.traced(project.net())
    for variables in ({"weights": "x.pth"}, {"architecture": "net"}):
        with pytest.raises(UserError, match="leave ARCHITECTURE= and WEIGHTS= out"):
            project.adopt(path, **variables)


def test_a_damaged_program_is_said(project: Project) -> None:
    import zipfile

    for name, record, why in (
        ("x.pt", "constants.pkl", "no TorchScript file"),
        ("x.pt2", "archive_format", "no program"),
    ):
        with zipfile.ZipFile(project.folder / name, "w") as archive:
            archive.writestr(f"x/{record}", "pt2")
        with pytest.raises(UserError, match=why):
            project.adopt(project.folder / name)


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ([None, 3, 224, 192], Taken(depth=3, height=224, width=192, batch=None, layout="nchw")),
        ([8, 3, None, None], Taken(depth=3, height=None, width=None, batch=8, layout="nchw")),
        ([1, 28, 28, 1], Taken(depth=1, height=28, width=28, batch=1, layout="nhwc")),
    ],
)
def test_a_shape_tells_the_layout(shape: list[int | None], taken: Taken) -> None:
    assert taken_of(shape, Path("x")) == taken


@pytest.mark.parametrize("shape", [[1, 4, 32, 32], [None, None, None, None]])
def test_a_shape_without_channels_is_refused(shape: list[int | None]) -> None:
    with pytest.raises(UserError, match="no side of that has the 1 or 3 channels"):
        taken_of(shape, Path("x"))
