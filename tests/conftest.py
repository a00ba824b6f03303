"""What all tests share."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("carso", deadline=None)
settings.load_profile("carso")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


class Scheduling(LoadScopeScheduling):
    """What shares something that takes long to make goes to one worker: two folders, and the modules of another."""

    def _split_scope(self, nodeid: str) -> str:
        module = Path(nodeid.split("::")[0])
        if module.parent.name in ("ablations", "comparison"):
            return str(module.parent)
        return str(module) if module.parent.name == "commands" else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@contextmanager
def unchecked() -> Iterator[None]:
    """Without the checks of types and shapes, which nearly double the time."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """What several tests share is a whole run, unchecked: the tests of its parts check them."""
    with nullcontext() if fixturedef.scope == "function" else unchecked():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with unchecked() if item.get_closest_marker("whole") else nullcontext():
        return (yield)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the cache of whoever runs it, nor fetches anything from the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARSO_DATA", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CARSO_MIRROR", "http://127.0.0.1:9/")
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "*")
        yield


@pytest.fixture
def fresh_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was shown or noted yet."""
    from carso import progress

    monkeypatch.setattr(progress, "_display", progress._Display())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference files beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("there is no ../shared")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; tests that need it skip where it or playwright is absent."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as engine:
        launched = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def contrast() -> Callable[[str, str], float]:
    """The contrast ratio of two CSS colours, by the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour: str) -> float:
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def ratio(front: str, back: str) -> float:
        light, dark = sorted((luminance(front), luminance(back)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    return ratio
