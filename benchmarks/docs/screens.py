"""Photograph the README's two pages, docs/report.png and docs/demo.png, in headless Chromium.

    python -m benchmarks.docs.screens out/thesis

The folder is that of a run with its report, as `make run` leaves it; the demo shows the default defence under PGD.
"""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

DOCS = Path(__file__).parents[2] / "docs"
PORT = 7899


def photograph(page: Any, name: str, **options: Any) -> None:
    path = DOCS / name
    page.screenshot(path=path, **options)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def until_listening() -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the demo did not start")


def demo(browser: Any) -> None:
    served = subprocess.Popen([sys.executable, "-m", "carso", "demo", "--port", str(PORT), "--no-open"])
    try:
        until_listening()
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(f"http://127.0.0.1:{PORT}/")
        expect(page.locator("#tally")).to_contain_text("decided", timeout=30_000)
        page.wait_for_timeout(1000)
        photograph(page, "demo.png", full_page=True)
    finally:
        served.terminate()


def main(run: Path) -> None:
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 1285}, color_scheme="light")
        page.goto((run / "report.html").resolve().as_uri())
        photograph(page, "report.png")
        demo(browser)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
