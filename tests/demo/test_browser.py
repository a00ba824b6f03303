"""The demo as a visitor meets it, in headless Chromium; skipped where there is none."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
import torch
from PIL import Image

import carso
from carso import data
from carso.defence import CARSO
from carso.demo.studio import Round, Studio
from carso.nn import MLP
from carso.purifier import Purifier
from carso.storage import weights
from carso.types import Images

pytest.importorskip("uvicorn")

from carso.demo.server import application
from carso.demo.turns import CAPACITY
from carso.demo.wire import encode
from carso.web.serving import server_of

playwright = pytest.importorskip("playwright.sync_api")

Contrast: TypeAlias = Callable[[str, str], float]


@contextlib.contextmanager
def served(studio: Studio, capacity: int = CAPACITY) -> Iterator[str]:
    """The address of a studio's page."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(application(studio, capacity=capacity))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    studio = Studio(carso.load("mnist"), weights.load_undefended("mnist"), data.load("mnist", "test"), "mnist", True)
    with served(studio) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with opened(browser, address) as page:
        decided(page)
        yield page


@contextlib.contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page that may ask nobody but its server, and that must not complain."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith((address, "data:", "blob:")) or complaints.append(request.url)
    )
    page.goto(address)
    yield page
    page.close()
    # What the page explains, a refusal or a server gone, is logged by the browser too.
    assert [
        complaint
        for complaint in complaints
        if not re.search("status of (400|503)|ERR_FAILED|ERR_INCOMPLETE", complaint)
    ] == []


def decided(page: Any) -> None:
    playwright.expect(page.locator("#tally")).to_have_text(re.compile("decided"), timeout=20_000)
    playwright.expect(page.locator("#verdict")).not_to_have_text(re.compile("voting"))


def answers(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".answer b").all_inner_texts()]


def votes(page: Any) -> list[int]:
    return [int(text.replace(",", "")) for text in page.locator("#bars .votes").all_inner_texts()]


def pixels(page: Any, canvas: str) -> str:
    found: str = page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
    return found


def test_a_drawn_digit_is_attacked_and_all_three_answer(page: Any) -> None:
    box = page.locator("#pad").bounding_box()
    page.click("#clear")
    assert answers(page) == []
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8, steps=8)
    with page.expect_response("**/api/attack"):
        page.mouse.up()
    playwright.expect(page.locator(".answer b").last).to_have_text("…")
    decided(page)
    assert len(answers(page)) == 3
    assert all(re.fullmatch(r"\d", answer) for answer in answers(page))
    assert answers(page)[2] == str(max(range(10), key=votes(page).__getitem__))
    assert page.locator("#recall .cast").count() == 20
    assert "mislead" in page.inner_text("#verdict")


def test_the_vote_grows_and_the_recollections_follow_one_another(page: Any) -> None:
    page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => window.seen.push([
            [...document.querySelectorAll('#bars .votes')].reduce((sum, one) => sum + parseInt(one.textContent), 0),
            parseFloat(document.querySelector('#bars .lead .fill')?.style.width || 0),
            document.querySelectorAll('#recall .cast').length])
        ).observe(document.querySelector('#tally'), { childList: true }); }"""
    )
    with page.expect_response("**/api/vote"):
        page.click("#pick")
    decided(page)
    counted, width, tiles = map(list, zip(*page.evaluate("window.seen"), strict=True))
    assert counted[:4] == [5, 10, 15, 20]
    assert width[0] < width[1] < width[2]
    assert tiles[:4] == [5, 10, 15, 20]
    assert counted[-1] == sum(votes(page))


def test_the_vote_can_go_on_to_the_last_candidate(page: Any) -> None:
    with page.expect_response("**/api/vote"):
        page.check("#whole")
    playwright.expect(page.locator("#tally")).to_have_text(re.compile("all are counted"), timeout=30_000)
    assert sum(votes(page)) == 1500


def test_the_vote_before_the_attack_is_by_the_same_latents(page: Any) -> None:
    with page.expect_request("**/api/attack") as before, page.expect_request("**/api/vote") as after:
        page.click("#pick")
    assert before.value.post_data_json["seed"] == after.value.post_data_json["seed"] > 0


def test_where_the_mode_does_not_decide_all_candidates_are_counted(browser: Any, studio: Studio) -> None:
    own = studio.defence
    other = CARSO(own.classifier, own.purifier, samples=60, aggregation="exponential")
    with served(Studio(other, None, studio.dataset)) as address, opened(browser, address) as page:
        playwright.expect(page.locator("#tally")).to_have_text(
            "60 of 60 candidates: all are counted, decided by exponential."
        )
        assert page.locator("#whole").is_disabled()
        assert page.locator(".answer .name").all_inner_texts() == ["Classifier alone", "CARSO"]


def test_the_radius_and_the_norm_reach_the_attack(page: Any) -> None:
    with page.expect_response("**/api/attack"):
        page.locator("#eps").fill("0.05")
    playwright.expect(page.locator("#distance")).to_have_text(re.compile(r"L∞ 0\.05"), timeout=30_000)
    with page.expect_response("**/api/attack"):
        page.check("input[value=L2]")
    playwright.expect(page.locator("#distance")).to_have_text(re.compile(r"L2 2\.00"), timeout=30_000)
    with page.expect_request("**/api/attack") as asked:
        page.check("input[value=defence]")
    assert asked.value.post_data_json["aim"] == "defence"


@pytest.mark.parametrize(
    ("usual", "shown", "further", "there"),
    [
        (8 / 255, "8/255", "9", "9/255"),
        (8 / 255, "8/255", "32", "32/255"),
        (0.005, "0.0050", "16", "0.010"),
        (0.2, "0.20", "0.25", "0.25"),
        (0.125, "0.125", "26", "0.250"),
    ],
)
def test_attacks_begin_at_the_radius_of_the_defence(
    browser: Any, studio: Studio, usual: float, shown: str, further: str, there: str
) -> None:
    own = Studio(studio.defence, None, studio.dataset, radii={"Linf": usual})
    with served(own) as address, opened(browser, address) as page:
        playwright.expect(page.locator("#eps-value")).to_have_text(shown)
        decided(page)
        playwright.expect(page.locator("#distance")).to_have_text(re.compile(rf"L∞ {re.escape(shown)},"))
        page.locator("#eps").fill(further)
        playwright.expect(page.locator("#distance")).to_have_text(re.compile(rf"L∞ {re.escape(there)},"))
        page.check("input[value=L2]")
        playwright.expect(page.locator("#eps-value")).to_have_text("2.00")


def test_a_radius_between_the_usual_steps_is_what_is_attacked_with(browser: Any, studio: Studio) -> None:
    own = Studio(studio.defence, None, studio.dataset, radii={"L2": 0.25})
    with served(own) as address, opened(browser, address) as page:
        decided(page)
        with page.expect_request("**/api/attack") as asked:
            page.check("input[value=L2]")
        assert asked.value.post_data_json["eps"] == pytest.approx(0.25)
        playwright.expect(page.locator("#eps-value")).to_have_text("0.250")
        decided(page)


def test_an_image_on_which_the_witnesses_disagree_is_turned_away(page: Any) -> None:
    with page.expect_response("**/api/attack"):
        page.locator("#eps").fill("0.5")
    decided(page)
    for _ in range(6):
        if "turns the image away" in page.inner_text("#verdict"):
            break
        with page.expect_response("**/api/vote"):
            page.click("#pick")
        decided(page)
    assert "CARSO turns the image away" in page.inner_text("#verdict")
    card = page.locator(".answer.carso.away")
    assert card.locator("b").evaluate("b => getComputedStyle(b).textDecorationLine") == "line-through"
    assert "turned away" in card.inner_text()


def test_without_an_attack_nothing_changes(page: Any) -> None:
    with page.expect_response("**/api/attack"):
        page.select_option("#attack", "none")
    playwright.expect(page.locator("#verdict")).to_have_text("Not attacked: 7, 7, 7", timeout=20_000)
    assert pixels(page, "#clean") == pixels(page, "#attacked")
    assert page.locator("#eps").is_disabled()


def test_what_is_told_of_an_attack_is_an_attack(page: Any) -> None:
    playwright.expect(page.locator("#took")).to_have_text(re.compile(r"^attacked in \d+\.\d\d\ss$|^attacked in under"))
    with page.expect_response("**/api/attack"):
        page.select_option("#attack", "none")
    playwright.expect(page.locator("#took")).to_have_text("not attacked")


def test_the_walk_moves_what_is_recalled(page: Any) -> None:
    for axis in ("#first", "#second"):
        before = pixels(page, "#walk")
        with page.expect_response("**/api/walk"):
            page.locator(axis).fill("3")
        page.wait_for_function("before => document.querySelector('#walk').toDataURL() !== before", arg=before)


def test_the_keyboard_suffices(page: Any) -> None:
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
        outline = "e => getComputedStyle(e.closest('.button') || e).outlineStyle"
        assert page.locator(":focus").evaluate(outline) != "none"
    controls = [
        "pad",
        "clear",
        "pick",
        "upload",
        "attack",
        "eps",
        "Linf",
        "classifier",
        "bars",
        "whole",
        "first",
        "second",
    ]
    assert reached == controls
    page.focus("#pad")
    page.keyboard.press("Escape")
    page.keyboard.press(" ")
    playwright.expect(page.locator("#hint")).to_have_text("The pen is down.")
    assert page.locator("#pen").is_visible()
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    with page.expect_response("**/api/picture") as sent:
        page.keyboard.press(" ")
    assert sent.value.ok
    playwright.expect(page.locator("#hint")).to_have_text("The pen is up.")
    decided(page)
    assert page.inner_text("#origin") == "your drawing"
    with page.expect_response("**/api/attack"):
        page.click("#pick")
    playwright.expect(page.locator("#hint")).to_contain_text("By keyboard")


def nonsense(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "animated":
        frames = [Image.new("L", (30, 30), shade) for shade in (0, 128, 255)]
        frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    elif kind == "transparent":
        Image.new("RGBA", (30, 30)).save(buffer, "PNG")
    elif kind == "tiny":
        Image.new("L", (1, 1)).save(buffer, "PNG")
    elif kind == "huge":
        Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue() or b"\x89PNG\r\n\x1a\nnot really"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("corrupt", "cannot be read"),
        ("animated", "animated"),
        ("transparent", "no digit"),
        ("tiny", "no digit"),
        ("huge", "scale it down"),
    ],
)
def test_nonsense_gets_a_message_and_the_page_goes_on(page: Any, kind: str, told: str) -> None:
    file = {"name": f"{kind}.png", "mimeType": "image/png", "buffer": nonsense(kind)}
    page.set_input_files("#upload", file)
    playwright.expect(page.locator("#message")).to_contain_text(told)
    with page.expect_response("**/api/attack"):
        page.click("#pick")
    playwright.expect(page.locator("#message")).to_be_hidden()


def test_a_picture_is_uploaded_and_shown(page: Any) -> None:
    image = Image.new("RGB", (300, 200), "white")
    image.paste("navy", (140, 30, 160, 170))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    before = pixels(page, "#pad")
    with page.expect_response("**/api/attack"):
        page.set_input_files("#upload", {"name": "one.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()})
    decided(page)
    assert page.inner_text("#origin") == "your picture"
    assert pixels(page, "#pad") != before


def test_a_server_that_has_gone_is_told(page: Any) -> None:
    page.route("**/api/*", lambda route: route.abort())
    page.click("#pick")
    playwright.expect(page.locator("#message")).to_have_text("The demo's server does not answer; is it still running?")


class Dying(Studio):
    """A studio of which nothing is heard after the first round of a vote, but once."""

    alive = False

    def vote(self, image: Images, seed: int = 0, whole: bool = False) -> Iterator[Round]:
        rounds = super().vote(image, seed, whole)
        yield next(rounds)
        if not self.alive:
            self.alive = True
            raise ConnectionError("the server has gone")
        yield from rounds


def test_a_vote_that_is_interrupted_leaves_nothing_waiting(browser: Any, studio: Studio) -> None:
    with served(Dying(studio.defence, None, studio.dataset)) as address, opened(browser, address) as page:
        playwright.expect(page.locator("#message")).to_have_text(
            "The vote was interrupted; change anything to vote again."
        )
        playwright.expect(page.locator("#verdict")).to_have_text("No answers")
        playwright.expect(page.locator("#tally")).to_have_text("")
        assert answers(page) == []
        page.click("#pick")
        decided(page)
        playwright.expect(page.locator("#message")).to_be_hidden()


class Gated(Studio):
    """A studio whose walks wait at a gate."""

    gate: threading.Event

    def walk(self, image: Images, first: float, second: float) -> Images:
        self.gate.wait(30)
        return super().walk(image, first, second)


@pytest.fixture
def gated(studio: Studio) -> Gated:
    gated = Gated(studio.defence, studio.undefended, studio.dataset)
    gated.gate = threading.Event()
    return gated


@contextlib.contextmanager
def crowd(studio: Gated, address: str, visitors: int) -> Iterator[None]:
    """Other visitors of whom one computes and all others wait, until the gate is opened."""
    body = json.dumps({"image": encode(studio.pick(0)[0]), "first": 0, "second": 0}).encode()

    def walk(visitor: int) -> int:
        request = urllib.request.Request(f"{address}api/walk", body, {"X-Visitor": f"other {visitor}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)

    with ThreadPoolExecutor(visitors) as pool:
        asked = [pool.submit(walk, visitor) for visitor in range(visitors)]
        while json.load(urllib.request.urlopen(f"{address}api/place"))["waiting"] < visitors - 1:
            time.sleep(0.01)
        yield
        studio.gate.set()
        assert [each.result() for each in asked] == [200] * visitors


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_waits_sees_the_place_in_the_queue(browser: Any, gated: Gated, contrast: Contrast, scheme: str) -> None:
    screen = {"color_scheme": scheme, "viewport": {"width": 390, "height": 844}}
    with served(gated) as address, crowd(gated, address, 4), opened(browser, address, **screen) as page:
        queue = page.locator("#queue")
        playwright.expect(queue).to_have_text("You are number 4 of 4 in the queue.", timeout=10_000)
        playwright.expect(queue).to_be_in_viewport(ratio=1)
        colours = queue.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
        assert contrast(*colours) >= 4.5
        gated.gate.set()
        decided(page)
        playwright.expect(queue).to_be_hidden()


@pytest.mark.parametrize(("digit", "shown"), [(True, "your picture"), (False, "test image 1: 7")])
def test_a_picture_that_waits_is_not_lost_and_one_that_is_none_changes_nothing(
    browser: Any, gated: Gated, digit: bool, shown: str
) -> None:
    picture, buffer = Image.new("L", (28, 28)) if digit else Image.linear_gradient("L"), io.BytesIO()
    if digit:
        picture.paste(255, (12, 5, 16, 23))
    picture.save(buffer, "PNG")
    with served(gated) as address, crowd(gated, address, 2), opened(browser, address) as page:
        playwright.expect(page.locator("#queue")).to_be_visible()
        page.set_input_files("#upload", {"name": "mine.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
        page.locator("#eps").fill("0.1")
        page.wait_for_timeout(400)
        gated.gate.set()
        decided(page)
        playwright.expect(page.locator("#origin")).to_have_text(shown)


def test_a_full_demo_says_when_it_is_asked_again_and_is(browser: Any, gated: Gated) -> None:
    with served(gated, capacity=1) as address, crowd(gated, address, 1), opened(browser, address) as page:
        queue = page.locator("#queue")
        playwright.expect(queue).to_have_text(re.compile(r"The demo is full\. Asking again in \d+ s\."))
        gated.gate.set()
        decided(page)
        playwright.expect(queue).to_be_hidden()
        assert len(answers(page)) == 3


def test_colour_defences_without_data_or_an_undefended_model_are_shown_too(browser: Any) -> None:
    torch.manual_seed(0)
    classifier = MLP((3, 20, 32), (30,), 4, mean=(0.5,) * 3, std=(0.2,) * 3).eval()
    studio = Studio(CARSO(classifier, Purifier((3, 20, 32), 34, latent=1), samples=40))
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "PNG")
    with served(studio) as address, opened(browser, address) as page:
        playwright.expect(page.locator("#pick")).to_be_hidden()
        playwright.expect(page.locator("#second")).to_be_disabled()
        page.set_input_files("#upload", {"name": "a.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
        decided(page)
        assert len(answers(page)) == 2
        assert page.locator("#attacked").evaluate("canvas => [canvas.width, canvas.height]") == [32, 20]


def test_every_control_has_a_name(page: Any) -> None:
    controls = page.locator("button, select, input, canvas[role], #recall, #bars").all()
    assert len(controls) > 15
    for control in controls:
        name = control.evaluate(
            "e => e.getAttribute('aria-label') || (e.labels && e.labels[0] && e.labels[0].innerText) || e.innerText"
        )
        assert name.strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_as_aa_asks(browser: Any, address: str, contrast: Contrast, scheme: str) -> None:
    with opened(browser, address, color_scheme=scheme, viewport={"width": 390, "height": 844}) as page:
        decided(page)
        pairs = page.evaluate(
            """() => [...document.querySelectorAll('h1,h2,p,label,button,b,span,li,output,figcaption,legend')]
            .filter(e => e.offsetParent && e.innerText.trim() && ![...e.children].some(c => c.innerText)).map(e => {
              let back = e;
              while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
              return [getComputedStyle(e).color, getComputedStyle(back).backgroundColor, e.innerText]; })"""
        )
        assert len(pairs) > 20
        assert min(contrast(front, back) for front, back, _ in pairs) >= 4.5
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
