import sys
from pathlib import Path

import pytest

from carso.data.cache import cache_folder


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, ".cache/carso"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/carso"),
        ("darwin", {"XDG_CACHE_HOME": "/caches"}, "Library/Caches/carso"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/carso"),
        ("linux", {"CARSO_DATA": "~/sets", "XDG_CACHE_HOME": "/caches"}, "sets"),
    ],
)
def test_each_platform_keeps_caches_in_its_place(
    platform: str, environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CARSO_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == Path.home() / folder
