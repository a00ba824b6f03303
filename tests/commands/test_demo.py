import socket

import pytest

from carso.commands.demo import matching, run, studio_of
from carso.errors import DataError


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
