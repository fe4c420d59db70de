import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from classifier.identity import UNTRAINED
from classifier.recipe import Recipe, read_recipe
from msgspec.structs import replace

from scripts.building import download as weights
from scripts.building.download import DownloadError, download
from scripts.building.weights import resolve
from scripts.console import UserError
from tests.conftest import TINY_RECIPE
from tests.unit.conftest import StartServer

CHUNK = 100  # bytes, small so that a file of some kilobytes arrives in many


class Site:
    """Serves one file, well or badly, and remembers the Range header of each request."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        self.url = ""
        self.status = 200
        self.hangs_up_after = len(content)
        self.knows_ranges = True
        self.ranges: list[str | None] = []
        self.before_answering: Callable[[], object] = lambda: None

    def handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers["Range"]
                site.ranges.append(wanted)
                site.before_answering()
                start = int(wanted[len("bytes=") : -1]) if wanted and site.knows_ranges else 0
                status = site.status if not start else 206 if start < len(site.content) else 416
                self.send_response(status)
                self.send_header("Content-Length", str(max(0, len(site.content) - start)))
                self.end_headers()
                self.wfile.write(site.content[start : site.hangs_up_after])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def site(web_server: StartServer, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(weights, "_CHUNK_BYTES", CHUNK)
    site = Site(tiny_weights.read_bytes())
    site.url = f"{web_server(site.handler())}/models/{site.name}"
    return site


@pytest.fixture
def recipe() -> Recipe:
    return read_recipe(TINY_RECIPE)


def kept(cache: Path) -> dict[str, int]:
    """The files of the cache and their sizes, locks apart."""
    return {path.name: path.stat().st_size for path in cache.iterdir() if path.suffix != ".lock"}


def test_a_download_is_what_the_server_has_and_the_second_one_comes_from_the_cache(site: Site, tmp_path: Path) -> None:
    first, second = download(site.url, tmp_path / "cache"), download(site.url, tmp_path / "cache")
    assert first == second == tmp_path / "cache" / site.name
    assert first.read_bytes() == site.content
    assert site.ranges == [None]
    assert kept(tmp_path / "cache") == {site.name: len(site.content)}


def test_a_download_that_breaks_off_goes_on_from_where_it_was(site: Site, tmp_path: Path) -> None:
    site.hangs_up_after = arrived = 10 * CHUNK
    with pytest.raises(DownloadError, match=re.escape(site.url)):
        download(site.url, tmp_path)
    assert kept(tmp_path) == {f"{site.name}.part": arrived}
    site.hangs_up_after = len(site.content)
    assert download(site.url, tmp_path).read_bytes() == site.content
    assert site.ranges == [None, f"bytes={arrived}-"]


def test_a_server_that_ignores_ranges_sends_all_and_all_is_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{site.name}.part").write_bytes(site.content[:CHUNK])
    site.knows_ranges = False
    assert download(site.url, tmp_path).read_bytes() == site.content
    assert site.ranges == [f"bytes={CHUNK}-"]


def test_a_file_that_had_arrived_whole_is_taken_as_it_is(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{site.name}.part").write_bytes(site.content)
    assert download(site.url, tmp_path).read_bytes() == site.content


def flipped(content: bytes) -> bytes:
    return content[:50] + bytes([content[50] ^ 1]) + content[51:]


def shortened(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("spoil", [flipped, shortened])
def test_what_is_not_what_its_name_promises_is_refused_and_not_kept(
    spoil: Callable[[bytes], bytes], site: Site, tmp_path: Path
) -> None:
    site.content = spoil(site.content)
    with pytest.raises(UserError, match=re.escape(site.name)):
        download(site.url, tmp_path)
    assert kept(tmp_path) == {}


def test_the_beginning_of_another_file_spoils_one_try_only(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{site.name}.part").write_bytes(b"?" * CHUNK)
    with pytest.raises(UserError):
        download(site.url, tmp_path)
    assert download(site.url, tmp_path).read_bytes() == site.content


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_refuses_is_a_failed_download(status: int, site: Site, tmp_path: Path) -> None:
    site.status = status
    with pytest.raises(DownloadError, match=str(status)):
        download(site.url, tmp_path)
    assert kept(tmp_path) == {}


def test_no_server_is_a_failed_download(refusing_address: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        download(f"{refusing_address}/tiny-0123abcd.pth", tmp_path)


def test_a_digest_of_the_recipe_checks_a_file_of_any_name(site: Site, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(site.content).hexdigest()
    url = site.url.replace(site.name, "best.pth?download=1")
    path = download(url, tmp_path, sha256)
    assert path.read_bytes() == site.content
    assert download(url, tmp_path, sha256) == path  # from the cache
    assert (site.ranges, kept(tmp_path)) == ([None], {path.name: len(site.content)})


def test_files_of_one_name_and_other_content_do_not_meet_in_the_cache(site: Site, tmp_path: Path) -> None:
    url = site.url.replace(site.name, "best.pth")
    first = download(url, tmp_path, hashlib.sha256(site.content).hexdigest())
    before, site.content = site.content, flipped(site.content)
    site.hangs_up_after = len(site.content)
    second = download(url, tmp_path, hashlib.sha256(site.content).hexdigest())
    assert (first.read_bytes(), second.read_bytes()) == (before, site.content)


@pytest.mark.parametrize("spoil", [flipped, shortened])
def test_what_does_not_have_the_recipes_digest_is_refused_and_not_kept(
    spoil: Callable[[bytes], bytes], site: Site, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(site.content).hexdigest()
    site.content = spoil(site.content)
    with pytest.raises(UserError, match=rf"best\.pth is damaged or was tampered with: by the recipe .*{sha256[:16]}"):
        download(site.url.replace(site.name, "best.pth"), tmp_path, sha256)
    assert kept(tmp_path) == {}


def test_the_whole_digest_counts_not_the_digits_in_the_name(site: Site, tmp_path: Path) -> None:
    other = hashlib.sha256(site.content).hexdigest()[:8] + "0" * 56
    with pytest.raises(UserError, match="by the recipe its SHA-256"):
        download(site.url, tmp_path, other)


@pytest.mark.parametrize("name", ["tiny.pth", "tiny-0123.pth", "tiny.bin", "tiny-0123wxyz.pth"])
def test_a_name_without_a_digest_is_refused_before_anything_is_fetched(name: str, site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SHA-256"):
        download(site.url.replace(site.name, name), tmp_path)
    assert site.ranges == []


def test_two_builds_at_once_fetch_once(site: Site, tmp_path: Path) -> None:
    both = threading.Barrier(2)
    second_request = threading.Event()

    def linger() -> None:  # as long as a second request could take to come, if the first did not keep it from coming
        if len(site.ranges) > 1:
            second_request.set()
        second_request.wait(0.3)

    def fetch() -> Path:
        both.wait()
        return download(site.url, tmp_path)

    site.before_answering = linger
    with ThreadPoolExecutor(2) as pool:
        paths = [future.result() for future in [pool.submit(fetch), pool.submit(fetch)]]
    assert site.ranges == [None]
    assert [path.read_bytes() for path in paths] == [site.content] * 2


@pytest.mark.parametrize("choice", ["auto", "pretrained"])
def test_the_recipes_weights_carry_their_name_and_digest(
    choice: str, site: Site, recipe: Recipe, tmp_path: Path
) -> None:
    found = resolve(replace(recipe, weights=site.url), choice, tmp_path, tmp_path)
    assert (found.name, found.sha256) == (Path(site.name).stem, hashlib.sha256(site.content).hexdigest())
    assert found.path.read_bytes() == site.content


def test_auto_falls_back_to_untrained_weights_and_says_so(
    refusing_address: str, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = resolve(replace(recipe, weights=f"{refusing_address}/tiny-0123abcd.pth"), "auto", tmp_path, tmp_path)
    assert found.name == UNTRAINED
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
    banner = capsys.readouterr().err
    assert "UNTRAINED WEIGHTS" in banner
    assert "tiny has untrained weights" in banner
    assert "refused" in banner


def test_auto_does_not_fall_back_when_the_file_was_tampered_with(site: Site, recipe: Recipe, tmp_path: Path) -> None:
    site.content = flipped(site.content)
    with pytest.raises(UserError, match="tampered"):
        resolve(replace(recipe, weights=site.url), "auto", tmp_path, tmp_path)
    assert kept(tmp_path) == {}


def test_pretrained_is_strict(refusing_address: str, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="WEIGHTS=<path"):
        resolve(replace(recipe, weights=f"{refusing_address}/tiny-0123abcd.pth"), "pretrained", tmp_path, tmp_path)
    assert kept(tmp_path) == {}


def test_a_cached_file_that_was_changed_is_refused(site: Site, recipe: Recipe, tmp_path: Path) -> None:
    path = download(site.url, tmp_path)
    path.write_bytes(flipped(site.content))
    with pytest.raises(UserError, match=re.escape(str(path))):
        resolve(replace(recipe, weights=site.url), "auto", tmp_path, tmp_path)


def test_own_weights_are_named_by_their_file(tiny_weights: Path, recipe: Recipe, tmp_path: Path) -> None:
    found = resolve(recipe, str(tiny_weights), tmp_path / "cache", tmp_path)
    assert (found.name, found.path) == ("tiny-trained", tiny_weights)
    assert found.sha256 == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    assert not (tmp_path / "cache").exists()


def test_a_date_in_the_name_of_own_weights_is_no_digest(tiny_weights: Path, recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "tiny-20261123.pth"
    path.write_bytes(tiny_weights.read_bytes())
    assert resolve(recipe, str(path), tmp_path, tmp_path).name == "tiny-20261123"


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_own_weights_that_are_no_file_are_refused(name: str, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"WEIGHTS={tmp_path / name}")):
        resolve(recipe, str(tmp_path / name), tmp_path, tmp_path)


@pytest.fixture
def package(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an installed package that ships a file of weights."""
    folder = tmp_path / "installed" / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    content = tiny_weights.read_bytes()
    (folder / "models" / f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth").write_bytes(content)
    (folder / "models" / "tiny-00000000.pth").write_bytes(content)
    monkeypatch.syspath_prepend(folder.parent)
    return folder.name


def test_a_package_can_ship_the_weights(package: str, recipe: Recipe, tmp_path: Path, tiny_weights: Path) -> None:
    name = f"tiny-{hashlib.sha256(tiny_weights.read_bytes()).hexdigest()[:8]}"
    found = resolve(replace(recipe, weights=f"package:{package}/models/{name}.pth"), "pretrained", tmp_path, tmp_path)
    assert found.name == name
    assert found.path.read_bytes() == tiny_weights.read_bytes()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:some_weights/models/tiny-00000000.pth", "tampered"),
        ("package:some_weights/models/missing.pth", "has no file models/missing.pth"),
        ("package:not_installed_at_all/tiny.pth", "not_installed_at_all is not installed"),
        ("torchvision:VGG16_Weights.NOT_THERE", "torchvision has no VGG16_Weights.NOT_THERE"),
        ("torchvision:NotThere_Weights.V1", "torchvision has no NotThere_Weights.V1"),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_source_that_cannot_be_used_is_refused_also_by_auto(
    source: str, message: str, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        resolve(replace(recipe, weights=source), "auto", tmp_path, tmp_path)


def test_torchvision_gives_the_address_and_the_name(
    site: Site, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"Tiny_Weights.V1": SimpleNamespace(name="V1", url=site.url)}
    monkeypatch.setattr("torchvision.models.get_weight", entries.__getitem__)
    found = resolve(replace(recipe, weights="torchvision:Tiny_Weights.V1"), "pretrained", tmp_path, tmp_path)
    assert found.name == "V1"
    assert found.path.read_bytes() == site.content


def test_untrained_weights_are_the_same_twice_and_leave_the_random_state_alone(
    refusing_address: str, recipe: Recipe, tmp_path: Path
) -> None:
    unreachable = replace(recipe, weights=f"{refusing_address}/tiny-0123abcd.pth")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = resolve(unreachable, "auto", tmp_path / "one", tmp_path)
        torch.manual_seed(2)
        before = torch.random.get_rng_state()
        second = resolve(unreachable, "auto", tmp_path / "two", tmp_path)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert first.path != second.path
    assert first.path.read_bytes() == second.path.read_bytes()
