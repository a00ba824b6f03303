import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from carso.commands.serve import answering_of, serve
from carso.errors import CarsoError, DataError, ModelError, WeightsError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `carso serve` would serve."""
    seen: dict[str, Any] = {}

    def run(app: object, listener: socket.socket) -> None:
        with listener:
            seen.update(app=app, address=listener.getsockname())

    monkeypatch.setattr("carso.web.serving.run", run)
    return seen


def test_a_free_port_is_found_and_named(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    serve("mnist-thesis", port=0, samples=50)
    told = capsys.readouterr().err
    assert f"mnist-thesis answers at http://127.0.0.1:{served['address'][1]}/predict; Ctrl-C ends it" in told
    assert "warning" not in told


def test_who_lets_others_in_is_warned(served: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    serve("mnist-thesis", port=0, host="0.0.0.0")
    assert "warning: whoever reaches 0.0.0.0 can use this machine's processor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "others", "known", "strange"),
    [
        ("127.0.0.1", None, "localhost", 403),
        ("127.0.0.1", ["carso.example"], "carso.example", 403),
        ("0.0.0.0", None, "carso.example", 200),
        ("0.0.0.0", ["carso.example"], "carso.example", 403),
    ],
)
def test_under_which_names_it_answers(
    served: dict[str, Any], host: str, others: list[str] | None, known: str, strange: int
) -> None:
    serve("mnist-thesis", port=0, host=host, allow_host=others, samples=5)
    client = TestClient(served["app"])
    statuses = [client.get("/health", headers={"host": name}).status_code for name in (known, "evil.example")]
    assert statuses == [200, strange]


def test_the_samples_are_those_asked_for() -> None:
    assert answering_of("mnist-thesis", None, samples=50).samples == 50
    assert answering_of("mnist-thesis", None).samples == 1500


def test_an_onnx_file_goes_with_nothing_that_only_torch_has(tmp_path: Path) -> None:
    with pytest.raises(CarsoError, match="leave out DEFENCE and --samples"):
        answering_of("mnist", tmp_path / "d.onnx", samples=5)


def test_bad_input_is_named_before_anything_is_served(served: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="did you mean 'mnist'"):
        serve("mnits", port=0)
    with pytest.raises(DataError, match=r"cannot listen on 192\.0\.2\.1:8000"):
        serve("mnist-thesis", host="192.0.2.1")
    assert not served


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.commands.shared.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'carso\[serve\]'"):
        serve("mnist-thesis", port=0)
