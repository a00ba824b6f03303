"""The report as a reader meets it, in headless Chromium; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carso.audit.results import Audit
from carso.evaluation import read_results
from carso.report.page import write_report

TEXTS = """() => {
  const ground = e => getComputedStyle(e).backgroundColor;
  const solid = e => { while (ground(e) === 'rgba(0, 0, 0, 0)') e = e.parentElement; return ground(e); };
  return [...document.querySelectorAll('body *:not(svg *)')]
    .filter(e => e.offsetParent && e.getClientRects().length && e.innerText && !e.closest('.hidden, .skip')
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .map(e => [getComputedStyle(e).color, solid(e), e.innerText.slice(0, 40)]);
}"""


@pytest.fixture(scope="module")
def report(finished: Path) -> str:
    return write_report(finished).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_is_silent_offline_legible_and_fits(
    browser: Any, report: str, contrast: Callable[[str, str], float], scheme: str, width: int
) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 844})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 100
    assert not [text for text in texts if contrast(text[0], text[1]) < 4.5]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report]
    page.close()


def test_the_keyboard_switches_the_scheme_and_opens_a_row_of_the_gallery(browser: Any, report: str) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(report)
    page.locator("#theme").press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    row = page.locator("details.gallery_row:not([open])").first.element_handle()
    row.query_selector("summary").press("Enter")
    assert row.evaluate("e => e.open")
    page.close()


def test_labels_of_charts_stay_within_their_charts(browser: Any, report: str) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(report)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('#votes svg text')].filter(t => {
          const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
          return a.left < b.left - 1 || a.right > b.right + 12; }).map(t => t.textContent)"""
    )
    assert outside == []
    page.close()


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (718, "print")])
def test_an_audits_table_stays_in_its_column(
    browser: Any, finished: Path, tmp_path: Path, audit: Audit, width: int, media: str
) -> None:
    shutil.copy(finished / "results.json", tmp_path)
    (found,) = audit.budgets
    attack = found.attacks[0].model_copy(update={"name": "pgd-log-mean-probability", "on": "survivors"})
    reason = "it needs a package that is not installed here, and more images than there are that anything is right on"
    left_out = found.attacks[1].model_copy(update={"options": {"left_out": reason}})
    budget = found.model_copy(update={"attacks": [attack, left_out]})
    whole = {"weights": read_results(finished).weights["carso"], "budgets": [budget, budget]}
    audit.model_copy(update=whole).write(tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(write_report(tmp_path).as_uri())
    page.emulate_media(media=media)
    beyond, tracks = page.evaluate(
        """() => [[...document.querySelectorAll('.charts .plain')].filter(t => t.getBoundingClientRect().right
          > t.closest('.charts').getBoundingClientRect().right + 1).length,
          [...document.querySelectorAll('.wide .track')].map(t => t.getBoundingClientRect().width)]"""
    )
    assert beyond == 0
    assert media == "print" or min(tracks) > 80
    page.close()


def test_it_prints(browser: Any, report: str) -> None:
    page = browser.new_page()
    page.goto(report)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    page.close()
