"""The page in a real browser, and its description fuzzed: a server in a process of its own, as a person starts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT = 30_000  # milliseconds that an answer of a network may take on a busy machine
FILES = (
    "const kept = new DataTransfer(); kept.items.add(new File([new Uint8Array(bytes)], name, { type })); return kept"
)
DROP = f"([bytes, name, type]) => {{ {FILES} }}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield Debian's chromium with a camera that shows a test pattern."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield found
        found.close()


def opened(browser: Browser, address: str, width: int, **options: Any) -> tuple[Page, list[str]]:
    """Open the study by the address that was printed; return the page and what its console says."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.wait_for_url("**/")
    expect(page.locator("#gallery > li").first).to_be_visible()
    return page, said


def fits(page: Page) -> bool:
    """Say whether nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def until(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own way to do so is not allowed by the page's policy."""
    for _ in range(WAIT // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


@pytest.mark.parametrize("width", [1280, 390])
def test_open_filter_drop_see(width: int, browser: Browser, address: str, photo: bytes) -> None:
    page, said = opened(browser, address, width)
    assert "token" not in page.url
    everything = int(page.locator("#found").inner_text().split()[2])
    page.select_option("[name=show]", "all")
    expect(page.locator("#found")).to_have_text(f"{everything} of {everything} test images")
    page.select_option("[name=show]", "disagree")
    expect(page.locator("#meaning")).to_contain_text("The difference between the candidates' scores")
    expect(page.locator("#found")).not_to_contain_text(f"{everything} of {everything}")
    page.select_option("[name=truth]", label="disc")
    expect(page.locator("#gallery > li").first.locator(".truth")).to_contain_text("disc")
    until(page, "[...document.images].some((image) => image.complete && image.naturalWidth > 0)")
    assert fits(page)

    page.get_by_role("link", name="Try a picture").click()
    expect(page.get_by_role("heading", name="Try a picture")).to_be_focused()
    transfer = page.evaluate_handle(DROP, [list(photo), "my <photo>.png", "image/png"])
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    answers = page.locator("#answers .answer")
    expect(answers).to_have_count(2)
    expect(page.locator("#told")).to_contain_text("my <photo>.png", timeout=WAIT)
    expect(page.locator("#told")).to_contain_text("%", timeout=WAIT)
    for answer in answers.all():
        expect(answer.locator(".why img")).to_have_count(2, timeout=WAIT)
        expect(answer.locator(".why")).to_contain_text("correlation with random weights")
        expect(answer.locator("table")).to_contain_text("%")
        widths = answer.locator("img").evaluate_all("found => found.map((image) => image.naturalWidth)")
        assert all(width > 0 for width in widths)
    with page.expect_download() as saved:
        answers.first.get_by_role("link", name="Save CSV").click()
    assert Path(saved.value.path()).read_text().startswith("path,label,pixels")
    assert fits(page)

    page.get_by_role("link", name="Report", exact=True).click()
    report = page.frame_locator("#frame")
    expect(report.locator("h1")).to_be_visible()
    expect(page.locator("#frame")).to_be_visible()
    assert fits(page)
    assert not said


def test_a_test_image_is_explained_and_the_camera_takes_a_picture(browser: Browser, address: str) -> None:
    page, said = opened(browser, address, 500, color_scheme="dark", permissions=["camera"])
    page.locator("#gallery > li").first.get_by_role("button").click()
    expect(page.locator("#told")).to_contain_text("Truth:", timeout=WAIT)
    page.select_option("[name=second]", "")
    expect(page.locator("#answers .answer")).to_have_count(1)
    expect(page.locator("#answers .why img")).to_have_count(2, timeout=WAIT)
    page.get_by_role("button", name="use the camera").click()
    expect(page.get_by_role("button", name="Take the picture")).to_be_focused()
    until(page, "document.getElementById('video').videoWidth > 0")
    page.keyboard.press("Enter")
    expect(page.locator("#told")).to_contain_text("camera.png. ", timeout=WAIT)
    expect(page.locator("#finder")).to_be_hidden()
    assert fits(page)
    assert not said


def test_what_is_no_picture_is_told_on_the_page(browser: Browser, address: str, tmp_path: Path) -> None:
    with (tmp_path / "b.png").open("wb") as large:
        large.truncate(21_000_000)
    page, _ = opened(browser, address, 1280)
    page.goto(f"{page.url}#try")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert").first).to_contain_text("none of the formats", timeout=WAIT)
    page.set_input_files("#file", tmp_path / "b.png")
    expect(page.get_by_role("alert").first).to_contain_text("21.0 MB", timeout=WAIT)


def test_the_keyboard_is_enough(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address, 1280)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the images")).to_be_focused()
    names = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", names
    assert {"Images", "Try a picture", "show", "candidate", "truth", "Explain"} <= names


def test_whoever_has_no_token_sees_nothing(browser: Browser, address: str) -> None:
    page = browser.new_context().new_page()
    answer = page.goto(address.partition("?")[0])
    assert answer is not None
    assert answer.status == 401
    assert "Authorization" in page.content()


def test_fuzzing_the_description_finds_no_error(address: str, tmp_path: Path) -> None:
    token, place = address.partition("token=")[2], urlsplit(address).netloc
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://{place}/openapi.json"]
    options = ["-H", f"Authorization: Bearer {token}", "--checks", ",".join(checks), "--seed", "1", "--no-color"]
    amount = ["--phases", "fuzzing", "--max-examples", "5", "--generation-database", "none"]
    done = subprocess.run([*command, *options, *amount], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Tested: 9" in done.stdout
