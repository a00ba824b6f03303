import pytest
from benchmarks.speed import scaling

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(
    ("work", "more"), [("pgd", {"batch": 2}), ("vote", {"batch": 2}), ("photographs", {"samples": 2})]
)
def test_a_point_in_a_process_of_its_own(work: str, more: dict[str, int]) -> None:
    found = scaling.apart(work, {"images": 4, "threads": 1, **more})
    assert found["seconds"] > 0
    assert 0 <= found["bytes"] < found["peak"]


def test_points_differ_in_what_grows() -> None:
    for work, grows, arguments in scaling.points(1000):
        assert work in scaling.WORKS
        assert grows in arguments
