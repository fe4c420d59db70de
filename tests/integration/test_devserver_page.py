"""The Flask server's page in a real browser, on a desk and on a phone, by mouse and by keyboard."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from scripts.building.golden import photograph

DESK = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}
CAT = photograph("chelsea.png")


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(browser: Browser, devserver: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, opened, in a browser that reaches nothing but its server; nothing may be said in the console."""
    page = browser.new_page(viewport=request.param)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.route("**", lambda route: route.continue_() if route.request.url.startswith(devserver) else route.abort())
    page.goto(devserver)
    yield page
    allowed = ("Failed to load resource: the server responded with a status of 4",)  # the browser's own, of a problem
    assert [text for text in said if not text.startswith(allowed)] == []
    page.close()


def shows_the_cat(page: Page) -> None:
    expect(page.get_by_role("heading", level=2)).to_have_text("Egyptian cat")
    expect(page.locator("#bars li")).to_have_count(5)
    expect(page.get_by_role("status")).to_contain_text("Egyptian cat, ")
    expect(page.locator("#time")).to_contain_text(" ms")


def test_a_chosen_picture_is_shown_with_its_classes_and_why(page: Page, tmp_path: Path) -> None:
    page.locator("#file").set_input_files(CAT)
    shows_the_cat(page)
    page.get_by_role("button", name="Show why").click()
    expect(page.get_by_role("button", name="Show why")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("status")).to_contain_text("bright parts")
    assert (
        page.locator("#preview").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
        == 224
    )
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"devserver-{page.viewport_size['width']}.png", full_page=True)  # type: ignore[index]
    page.get_by_role("button", name="Show why").click()
    assert (
        page.locator("#preview").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")
        == 451
    )


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    page.locator("#file").set_input_files(CAT)
    shows_the_cat(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_dropped_or_pasted_picture_is_classified(page: Page, how: str) -> None:
    page.evaluate(
        """([how, base64]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "cat.png", { type: "image/png" }));
            document.body.dispatchEvent(how === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        [how, base64.b64encode(CAT.read_bytes()).decode()],
    )
    shows_the_cat(page)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_it_works_by_keyboard_alone(page: Page, key: str) -> None:
    # Playwright begins to intercept choosers when somebody first listens, and does not wait until the browser does
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press(key)
    chooser.value.set_files(CAT)
    shows_the_cat(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "explain"
    page.keyboard.press(key)
    expect(page.get_by_role("button", name="Show why")).to_have_attribute("aria-pressed", "true")


def test_a_broken_picture_says_what_is_wrong_and_the_next_one_works(page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(CAT.read_bytes()[:3000])
    page.locator("#file").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_role("alert")).to_contain_text("The picture is broken")
    expect(page.locator("#result")).to_be_hidden()
    page.locator("#file").set_input_files(CAT)
    shows_the_cat(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_accessibility_has_no_serious_fault(page: Page) -> None:
    for step in ("empty", "answered"):
        if step == "answered":
            page.locator("#file").set_input_files(CAT)
            shows_the_cat(page)
        found = Axe().run(page).response["violations"]
        assert [item["id"] for item in found if item["impact"] in ("serious", "critical")] == [], step


def test_predict_is_what_the_readme_says(devserver: str) -> None:
    with CAT.open("rb") as file:
        answer = requests.post(f"{devserver}/predict", files={"file": file}, timeout=60).json()
    assert (answer["class_id"], answer["class_name"]) == ("n02124075", "Egyptian cat")
