"""Every panel with real traffic in a real Prometheus, and the page of `make dashboard` in a real browser."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from classifier.baseline import Baseline
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from monitoring.__main__ import running
from monitoring.dashboard import Prometheus, data, pages
from monitoring.panels import BOARDS
from monitoring.rules import Objectives, Rules
from scripts.archives.store import find_archive
from scripts.building.options import Options
from scripts.exporter.exporter import exporting
from scripts.exporter.listener import listening
from scripts.ports import free_port
from scripts.torchserve.config import EXPORTER, read_config, with_free_ports
from scripts.torchserve.launch import Variables
from scripts.torchserve.server import METRICS, serving
from tests.conftest import TINY_RECIPE
from tests.integration.conftest import CHECKOUT
from tests.integration.contract import TIMEOUT_S

DESK = {"width": 1300, "height": 900}
PHONE = {"width": 390, "height": 844}
FULL_S = 60.0  # in which every panel has something


def jpeg(colour: tuple[int, int, int]) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (300, 200), colour).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """A store with two versions of the tiny model that have a baseline."""
    from scripts.building.build import build

    folder = tmp_path_factory.mktemp("dashboards")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY_RECIPE.read_text() + "\nbaseline: tiny.baseline.json\n")
    for path in TINY_RECIPE.parent.glob("*"):
        if path.is_file() and not (folder / path.name).exists():
            (folder / path.name).write_bytes(path.read_bytes())
    baseline = Baseline(pictures=1000, classes={"other": 1.0}, bounds=[0.5, 1.0], confidence=[0.5, 0.5])
    (folder / "tiny.baseline.json").write_bytes(msgspec.json.encode(baseline))
    for version in ("1.0", "2.0"):
        build(Options(recipe=recipe, version=version, weights=str(tiny_weights), store=folder / "store"))
    return folder / "store"


@pytest.fixture(scope="module")
def prometheus(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that asks the exporter of a server with two versions, which get good and bad pictures."""
    state = tmp_path_factory.mktemp("server")
    config = with_free_ports(read_config(CHECKOUT / "config.properties") | {EXPORTER: "http://127.0.0.1:1"})
    config |= {"model_store": str(store)}
    archives = [find_archive(f"tiny-eager-{version}", store) for version in ("1.0", "2.0")]
    with ExitStack() as probing:
        port = free_port(probing)
    with ExitStack() as stack:
        log = stack.enter_context((state / "prometheus.log").open("wb"))
        server = stack.enter_context(serving(config, archives, state, variables=Variables(metrics=state / METRICS)))
        stack.enter_context(exporting(server, state))
        exporter = str(server.addresses.exporter).removeprefix("http://")
        rules = Rules(Objectives(), minute_s=1.0)
        stack.enter_context(running([exporter], rules, state / "prometheus", port, log, scrape_s=0.5))
        ended = threading.Event()
        asking = threading.Thread(target=ask, args=(server.addresses.inference, ended))
        asking.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ended.set()
            asking.join()


def ask(address: str, ended: threading.Event) -> None:
    bodies = [jpeg((200, 30, 30)), b"no picture", jpeg((30, 30, 200))]
    with requests.Session() as session:
        while not ended.wait(0.02):
            for path in ("tiny/1.0", "tiny/2.0", "none"):
                body = bodies[int(time.monotonic() * 50) % len(bodies)]
                session.post(f"{address}/predictions/{path}", data=body, timeout=TIMEOUT_S)


def empty(found: dict[str, Any]) -> list[str]:
    """The panels without any value."""
    return [
        f"{board['title']}: {panel['title']}"
        for board in found["boards"]
        for panel in board["panels"]
        if not any(value is not None for line in panel["lines"] for value in line.values)
    ]


def test_every_panel_has_something_to_show_of_each_version(prometheus: str) -> None:
    asked, deadline = Prometheus(prometheus), time.monotonic() + FULL_S
    while (missing := empty(data(asked, 15, time.time()))) and time.monotonic() < deadline:
        time.sleep(1)
    assert missing == []
    found = data(asked, 15, time.time())
    panels = [panel for board in found["boards"] for panel in board["panels"]]
    labels = {panel["title"]: {line.label for line in panel["lines"]} for panel in panels}
    assert {"tiny 1.0 p50", "tiny 1.0 p99", "tiny 2.0 p50", "tiny 2.0 p99"} <= labels["Time to answer"]
    assert {"not_an_image", "404 of the front end"} <= labels["Refused and failed"]
    assert labels["Requests by version"] == {"tiny 1.0", "tiny 2.0"}
    by = [f"tiny {version} by {of}" for version in ("1.0", "2.0") for of in ("class", "confidence")]
    assert labels["Drift"] == set(by)


@pytest.fixture(
    params=[(DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark")],
    ids=lambda shown: f"{shown[0]['width']}-{shown[1]}",
)
def page(browser: Browser, prometheus: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened, with a quarter of an hour to show; it asks nobody but its own server."""
    viewport, scheme = request.param
    with listening("dashboard", pages(Prometheus(prometheus)), "127.0.0.1", 0) as port:
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        said: list[str] = []
        asked: set[str] = set()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda each: asked.add(each.url))
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_label("Last").select_option("15 minutes")
        expect(page.locator("figure canvas")).to_have_count(sum(len(board.panels) for board in BOARDS), timeout=60_000)
        yield page
        assert said == []
        assert {url.removeprefix(f"http://127.0.0.1:{port}") for url in asked} <= {"/", "/data/60", "/data/15"}
        page.close()


def test_it_shows_every_panel_with_its_latest_values(page: Page, tmp_path: Path) -> None:
    expect(page.get_by_role("heading", level=2)).to_have_text(["Alerts", *(board.title for board in BOARDS)])
    expect(page.get_by_role("status")).to_contain_text("as of")
    answers = page.locator("figure").filter(has=page.get_by_role("heading", name="Time to answer"))
    expect(answers.get_by_role("row")).to_have_count(4)
    expect(answers.get_by_role("row").first).to_contain_text("tiny 1.0 p50")
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    assert page.viewport_size is not None
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    name = f"dashboard-{page.viewport_size['width']}{'-dark' if dark else ''}.png"
    page.screenshot(path=folder / name, full_page=True)


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_accessibility_has_no_fault(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []


def test_the_time_shown_is_chosen_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "minutes"
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Last")).to_have_value("60")
