"""The demo as a visitor meets it, in headless Chromium; skipped where there is none."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import uvicorn

    import carso
    from carso import data, weights
    from carso.demo.server import application
    from carso.demo.studio import Studio

    studio = Studio(carso.load("mnist"), weights.load_undefended("mnist"), data.load("mnist", "test"))
    server = uvicorn.Server(uvicorn.Config(application(studio), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    decided(page)
    page.complaints = complaints
    yield page
    page.close()


def decided(page: Any) -> None:
    playwright.expect(page.locator("#tally")).to_have_text(re.compile("decided"), timeout=20_000)


def answers(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".answer b").all_inner_texts()]


def test_a_drawn_digit_is_attacked_and_all_three_answer(page: Any) -> None:
    box = page.locator("#pad").bounding_box()
    page.click("#clear")
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8, steps=8)
    with page.expect_response("**/api/attack"):
        page.mouse.up()
    playwright.expect(page.locator(".answer b").last).to_have_text("…")
    decided(page)
    playwright.expect(page.locator(".answer b").last).not_to_have_text("…")
    assert len(answers(page)) == 3
    assert all(re.fullmatch(r"\d", answer) for answer in answers(page))
    shares = [float(text.rstrip(" %")) for text in page.locator("#bars .share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert 0 < page.locator("#recall canvas").count() <= 24
    assert page.complaints == []


def test_the_radius_reaches_the_attack(page: Any) -> None:
    with page.expect_response("**/api/attack"):
        page.locator("#eps").fill("0.05")
    playwright.expect(page.locator("#distance")).to_have_text(re.compile(r"distance 0\.05"), timeout=30_000)
    assert page.complaints == []


def test_the_keyboard_draws(page: Any) -> None:
    page.click("#clear")
    page.focus("#pad")
    page.keyboard.press(" ")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    with page.expect_response("**/api/picture") as sent:
        page.keyboard.press(" ")
    assert sent.value.ok
    playwright.expect(page.locator("#hint")).to_have_text("The pen is up.")


def test_nonsense_gets_a_message_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.png"
    nonsense.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    page.set_input_files("#upload", nonsense)
    playwright.expect(page.locator("#message")).to_be_visible()
    assert "Traceback" not in page.locator("#message").inner_text()
    with page.expect_response("**/api/attack"):
        page.click("#pick")
    playwright.expect(page.locator("#message")).to_be_hidden()


def test_every_control_has_a_name(page: Any) -> None:
    for control in page.locator("button, select, input, canvas[role], #recall").all():
        name = control.evaluate(
            "e => e.getAttribute('aria-label') || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText"
        )
        assert name
        assert name.strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_as_aa_asks(browser: Any, address: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
    page.goto(address)
    decided(page)
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('h1,h2,p,label,button,b,span,li,output,figcaption,legend')]
        .filter(e => e.offsetParent && e.innerText.trim() && ![...e.children].some(c => c.innerText)).map(e => {
          let back = e; while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
          return [getComputedStyle(e).color, getComputedStyle(back).backgroundColor, e.innerText]; })"""
    )
    assert len(pairs) > 20
    assert min(contrast(front, back) for front, back, _ in pairs) >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def contrast(front: str, back: str) -> float:
    """The contrast ratio of two CSS colours, by the Web Content Accessibility Guidelines 2.2."""
    light, dark = sorted((luminance(front), luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
