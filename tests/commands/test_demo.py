import ipaddress
import socket
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carso.commands.demo import at_hand, matching, run, studio_of, usual
from carso.defence import CARSO
from carso.errors import DataError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.storage import weights

pytest.importorskip("uvicorn")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `carso demo` would serve, and as whom."""
    seen: dict[str, Any] = {}

    def serve(studio: object, listener: socket.socket, hosts: list[str]) -> None:
        with listener:
            seen.update(studio=studio, address=listener.getsockname(), hosts=hosts)

    monkeypatch.setattr("carso.demo.server.serve", serve)
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


def defence_of(shape: tuple[int, int, int], *names: str) -> CARSO:
    pixels = dict(mean=(0.5,) * shape[0], std=(0.5,) * shape[0])
    defence = CARSO(MLP(shape, (6,), len(names), **pixels).eval(), Purifier(shape, 6 + len(names), latent=1), samples=5)
    defence.class_names = names
    return defence


@pytest.mark.parametrize(
    ("shape", "names"),
    [((3, 32, 32), tuple("0123456789")), ((1, 28, 28), ("ant", "bee", "cat"))],
    ids=["shape", "classes"],
)
def test_images_that_are_not_the_defences_own_are_refused_if_asked_for_else_not_offered(
    shape: tuple[int, int, int], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    defence = defence_of(shape, *names)
    assert matching(defence, "mnist") is None
    told = capsys.readouterr().err
    assert told.startswith("mnist: ")
    assert "the page offers no test images, --data names others" in told
    with pytest.raises(DataError, match="mnist"):
        matching(defence, "mnist", asked=True)


def test_digits_are_not_offered_to_a_defence_whose_classes_have_names_unless_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    defence = defence_of((1, 28, 28), *"abcdefghij")
    assert matching(defence, "mnist") is None
    assert "mnist: its classes are not called as the defence's; the page offers no" in capsys.readouterr().err
    assert matching(defence, "mnist", asked=True) is not None


def test_without_a_network_the_page_begins_without_images_unless_they_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert studio_of("cifar10", None).dataset is None
    assert "the page offers no test images, --data names others" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be reached"):
        studio_of("cifar10", "cifar10")


@pytest.mark.parametrize(
    ("name", "radii"), [("cifar10", {"Linf": 8 / 255}), ("fashion", {"Linf": 0.1}), ("mnist", {"Linf": 0.3})]
)
def test_attacks_begin_at_the_largest_radius_that_the_defence_is_meant_for(name: str, radii: dict[str, float]) -> None:
    assert usual(weights.origin(name)) == radii


def test_images_have_the_labels_and_names_of_the_defences_classes(tmp_path: Path) -> None:
    for split, name, shade in product(("train", "test"), ("bee", "cat"), range(4)):
        (folder := tmp_path / split / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 60 * shade).save(folder / f"{shade}.png")
    images = matching(defence_of((1, 8, 8), "ant", "bee", "cat"), str(tmp_path), asked=True)
    assert images is not None
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == [1] * 4 + [2] * 4


@pytest.mark.parametrize(("attacks", "adversarial"), [([], False), ([{"attack": "fgsm", "eps": 0.1}], True)])
def test_only_a_classifier_that_was_trained_against_attacks_is_called_so(
    tmp_path: Path, attacks: list[dict[str, Any]], adversarial: bool
) -> None:
    origin = {"recipe": {"data": "mnist", "adversarial": {"attacks": attacks}}}
    weights.save(defence_of((1, 28, 28), *"0123456789"), tmp_path, origin)
    assert studio_of(str(tmp_path), None).adversarial is adversarial


def test_the_images_are_the_recipes_own_where_they_can_be_had(tmp_path: Path) -> None:
    assert [at_hand(name) for name in ("fashion-mnist", "cifar-10")] == ["fashion-mnist", "cifar-10"]
    assert at_hand(str(tmp_path)) == str(tmp_path)
    assert at_hand(str(tmp_path / "gone")) == at_hand(None) == "mnist"


def test_it_votes_by_as_many_candidates_as_it_is_told() -> None:
    assert studio_of("mnist", "mnist", samples=30).defence.samples == 30
    assert studio_of("mnist", "mnist").defence.samples == 1500
