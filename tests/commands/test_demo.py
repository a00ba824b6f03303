import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest

from carso.commands.demo import at_hand, matching, run, studio_of
from carso.errors import DataError

pytest.importorskip("uvicorn")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `carso demo` would serve, and as whom."""
    seen: dict[str, Any] = {}

    def serve(studio: object, listener: socket.socket, hosts: list[str]) -> None:
        with listener:
            seen.update(studio=studio, address=listener.getsockname(), hosts=hosts)

    monkeypatch.setattr("carso.demo.serving.serve", serve)
    return seen


def test_a_free_port_is_found_and_named(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(studio_of("mnist", "mnist"), "127.0.0.1", 0, show=False)
    told = capsys.readouterr().err
    assert served["address"][1] > 0
    assert f"http://127.0.0.1:{served['address'][1]}/" in told
    assert "warning" not in told
    assert served["hosts"] == ["127.0.0.1"]


def test_who_lets_others_in_is_warned(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(studio_of("mnist", "mnist"), "0.0.0.0", 0, show=False, others=["demo.example"])
    told = capsys.readouterr().err
    assert not ipaddress.ip_address(served["address"][0]).is_loopback
    assert "warning: whoever reaches 0.0.0.0 can use this machine's processor" in told
    assert "it answers as localhost, 0.0.0.0, demo.example only" in told
    assert served["hosts"] == ["0.0.0.0", "demo.example"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with taken, pytest.raises(DataError, match=f"{host}:{taken.getsockname()[1]}: Address already in use; choose"):
        run(studio_of("mnist", "mnist"), host, taken.getsockname()[1], show=False)


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(DataError, match=r"cannot listen on 192\.0\.2\.1:"):
        run(studio_of("mnist", "mnist"), "192.0.2.1", 7860, show=False)


def test_images_of_another_shape_are_not_offered() -> None:
    assert matching("mnist", (3, 32, 32)) is None
    assert matching("mnist", (1, 28, 28)) is not None


def test_the_images_are_the_recipes_own_where_they_can_be_had(tmp_path: Path) -> None:
    assert [at_hand(name) for name in ("fashion-mnist", "cifar-10")] == ["fashion-mnist", "cifar-10"]
    assert at_hand(str(tmp_path)) == str(tmp_path)
    assert at_hand(str(tmp_path / "gone")) == at_hand(None) == "mnist"


def test_it_votes_by_as_many_candidates_as_it_is_told() -> None:
    assert studio_of("mnist", "mnist", samples=30).defence.samples == 30
    assert studio_of("mnist", "mnist").defence.samples == 1500
