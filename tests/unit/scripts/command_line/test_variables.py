from pathlib import Path

import pytest

from scripts.command_line.variables import options, variables_of
from scripts.command_line.verbs import VERBS
from scripts.console import UserError

# The variables that the Makefile had before there was a program, target by target.
TODAY = {
    "archive": "MODEL RUNTIME PRECISION WEIGHTS TORCHSCRIPT FORMAT GOLDEN CALIBRATION VERSION STORE RECIPES",
    "archives": "MODEL WEIGHTS TORCHSCRIPT FORMAT GOLDEN CALIBRATION VERSION STORE RECIPES",
    "key": "KEYS",
    "sign": "ARCHIVE KEY KEYS STORE",
    "serve": "MODELS PORTS FOREGROUND SECURE PUBLIC_KEY STORE STATE CONFIG",
    "stop": "STATE",
    "status": "STATE",
    "logs": "STATE",
    "token": "API RENEW STATE",
    "check-config": "CONFIG PRODUCTION",
    "gateway": "REPLICAS MODEL ROUTES LISTEN PORT ORIGINS",
    "split": "MODEL VERSIONS ROUTES",
    "gateway-status": "ROUTES",
    "predict": "IMAGE MODEL VERSION TOP_K GRPC STATE",
    "classify": "IMAGE ARCHIVE MODEL TOP_K STORE",
    "explain": "IMAGE ARCHIVE MODEL TARGET METHOD OUTPUT STORE",
    "devserver": "ARCHIVE MODEL PORT STORE",
    "demo": "MODELS IMAGE STATE STORE CONFIG WEIGHTS RECIPES",
    "onnx": "MODEL STORE",
    "bundle": "MODEL GOLDEN STORE",
    "cpp": "MODEL STORE",
    "mobile": "MODEL GOLDEN CALIBRATION STORE",
    "triton": "MODEL ARCHIVE BACKEND STORE",
    "triton-serve": "MODEL ARCHIVE BACKEND STORE PORTS",
    "everywhere": "MODEL GOLDEN PAGE STORE",
    "image": "GPU ARCHIVE TORCH_INDEX STORE",
    "register": "ARCHIVE PUBLIC_KEY STATE",
    "versions": "STATE",
    "describe": "MODEL STATE",
    "default": "MODEL VERSION STATE",
    "scale": "MODEL WORKERS VERSION STATE",
    "unregister": "MODEL VERSION STATE",
    "bench": "MODELS RUNTIME PEERS QUICK GOLDEN STORE",
    "tune": "MODEL P99_MS PRECISION TRIALS GOLDEN STORE",
    "scale-out": "MODEL GOLDEN PAGE STORE",
    "faults": "REPEAT MODEL GOLDEN PAGE STORE",
    "soak": "MINUTES ARCHIVE MODEL GOLDEN PAGE STORE",
    "parity": "MODEL GOLDEN STORE",
    "prune": "MODEL SPARSITY GOLDEN STORE",
    "evaluate": "DATA LABELS MODEL ARCHIVE STORE",
    "withstand": "MODEL GOLDEN STATE STORE",
    "fuzz": "TARGET SECONDS INPUT",
}


def test_a_variable_becomes_the_option_of_its_name() -> None:
    given = ["IMAGE=O'Brien's cat $1.png", "TOP_K=3", "GRPC=1"]
    assert options("predict", given) == ["--image=O'Brien's cat $1.png", "--top-k=3", "--grpc"]


@pytest.mark.parametrize("value", ["", "0", "no", "False", "off"])
def test_a_switch_can_be_off(value: str) -> None:
    assert options("predict", ["IMAGE=x", f"GRPC={value}"]) == ["--image=x"]


def test_a_switch_is_on_or_off() -> None:
    with pytest.raises(UserError, match="GRPC=maybe: expected 1"):
        options("predict", ["IMAGE=x", "GRPC=maybe"])


def test_a_word_that_is_no_variable_is_refused() -> None:
    with pytest.raises(UserError, match="'nonsense' is no variable: expected NAME=value"):
        options("status", ["nonsense"])


def test_a_list_is_separated_by_spaces_unless_it_is_one_path(tmp_path: Path) -> None:
    assert options("serve", ["MODELS=vgg16  tiny"]) == ["--models=vgg16", "--models=tiny"]
    path = tmp_path / "my archive.mar"
    path.touch()
    assert options("sign", [f"ARCHIVE={path}"]) == [f"--archive={path}"]


def test_a_folder_may_have_spaces() -> None:
    assert options("evaluate", ["DATA=my pictures/of cats"]) == ["--data=my pictures/of cats"]


def test_what_other_targets_have_is_left_out() -> None:
    """`make archive serve WEIGHTS=… MODELS=…` gives each target both."""
    assert options("serve", ["MODELS=tiny", "WEIGHTS=mine.pth", "IMAGE=x"]) == ["--models=tiny"]


def test_what_no_target_has_is_refused_with_what_was_probably_meant() -> None:
    with pytest.raises(UserError, match=r"no target has a variable MODLE; did you mean MODEL\?"):
        options("predict", ["IMAGE=x", "MODLE=tiny"])


def test_what_the_target_itself_has_was_meant_first() -> None:
    """FORM is nearer to FORMAT, which `make archive` has."""
    with pytest.raises(UserError, match=r"no target has a variable FORM; did you mean FROM\?"):
        options("adopt", ["FORM=my.pth"])


@pytest.mark.parametrize("name", ["PYTHON", "TORCH_INDEX", "KEY_PASSPHRASE", "INFERENCE_TOKEN", "CI"])
def test_what_make_or_the_environment_reads_is_no_option(name: str) -> None:
    assert options("status", [f"{name}=x"]) == []


@pytest.mark.parametrize(
    ("verb", "variable"),
    [
        ("predict", "IMAGE"),
        ("classify", "IMAGE"),
        ("explain", "IMAGE"),
        ("evaluate", "DATA"),
        ("register", "ARCHIVE"),
        ("default", "VERSION"),
        ("unregister", "VERSION"),
        ("scale", "WORKERS"),
        ("drain", "REPLICA"),
        ("split", "MODEL"),
        ("sign", "ARCHIVE"),
    ],
)
def test_a_missing_variable_is_one_clear_line(verb: str, variable: str) -> None:
    for given in ([], [f"{variable}="]):
        with pytest.raises(UserError, match=f"^{variable}=… is missing; see `make help`$"):
            options(verb, given)


@pytest.mark.parametrize("verb", ["serve", "register"])
def test_an_empty_public_key_is_an_error_and_never_no_check(verb: str) -> None:
    with pytest.raises(UserError, match="PUBLIC_KEY is empty"):
        options(verb, ["ARCHIVE=x.mar", "PUBLIC_KEY="])
    assert "--public-key=my keys/public.pem" in options(verb, ["ARCHIVE=x.mar", "PUBLIC_KEY=my keys/public.pem"])


@pytest.mark.slow
def test_the_variables_of_today_are_all_there() -> None:
    for verb in VERBS:
        assert set(TODAY.get(verb, "").split()) <= variables_of(verb).keys(), verb


def test_weights_stand_under_the_names_of_versions() -> None:
    given = ["MODEL=cats", "1.0=95", "2.0-rc=5"]
    assert options("split", given) == ["--model=cats", "--versions=1.0=95", "--versions=2.0-rc=5"]
    with pytest.raises(UserError, match="VERSIONS=… is missing"):
        options("split", ["MODEL=cats"])
