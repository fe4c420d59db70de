"""The page of `make card` in a real browser, on a desk and on a phone, in light and in dark."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from scripts.building.golden import photograph, views
from tests.integration.conftest import make
from tests.integration.contract import LITE0

DESK = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 844}
CLASSES = {
    "Egyptian cat": "chelsea.png",
    "tabby": "chelsea.png",
    "espresso": "coffee.png",
    "moped": "motorcycle_left.png",
}


@pytest.fixture(scope="module")
def card(archives: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of TorchScript's EfficientNet-Lite0, with labelled pictures, some of which it must get wrong."""
    folder = tmp_path_factory.mktemp("card")
    for seed, (name, picture) in enumerate(CLASSES.items()):
        (folder / "data" / name).mkdir(parents=True)
        with Image.open(photograph(picture)) as image:
            for number, view in enumerate(views(image.convert("RGB"), 4, seed)):
                view.save(folder / "data" / name / f"{number}.jpg")
    page = folder / "card.html"
    result = make("card", f"ARCHIVE={LITE0}-torchscript", f"DATA={folder / 'data'}", f"OUTPUT={page}")
    assert result.returncode == 0, result.stderr
    return page


@pytest.fixture(
    params=[(DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark")],
    ids=lambda shown: f"{shown[0]['width']}-{shown[1]}",
)
def page(browser: Browser, card: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened; it asks for nothing but itself, and nothing is said in the console."""
    viewport, scheme = request.param
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda each: asked.append(each.url) if not each.url.startswith("data:") else None)
    page.goto(card.as_uri())
    yield page
    assert said == []
    assert asked == [card.as_uri()]
    page.close()


def test_it_shows_every_part(page: Page, tmp_path: Path) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(LITE0)
    expect(page.get_by_role("heading", level=2)).to_have_count(7)
    expect(page.locator("section svg")).to_have_count(4)
    expect(page.locator("#pictures img")).to_have_count(21)
    expect(page.locator("#pictures")).to_contain_text("Egyptian cat")
    expect(page.locator("#evaluation .thumbnails img").first).to_be_visible()
    loaded = "(images) => Promise.all(images.map((image) => image.decode().then(() => image.naturalWidth > 0)))"
    assert all(page.locator("img").evaluate_all(loaded))
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    assert page.viewport_size is not None
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.screenshot(path=folder / f"card-{page.viewport_size['width']}{'-dark' if dark else ''}.png", full_page=True)


def test_nothing_is_wider_than_the_window_even_with_all_details_open(page: Page) -> None:
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")


def test_accessibility_has_no_fault(page: Page) -> None:
    page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
    found = Axe().run(page).response["violations"]
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []


def test_light_and_dark_differ(page: Page) -> None:
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    brightness = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (ground, ink)]
    assert (brightness[0] < brightness[1]) is dark
