import pytest
from benchmarks.speed import scaling

pytestmark = pytest.mark.whole


@pytest.mark.parametrize("work", ["pgd", "vote"])
def test_a_point_in_a_process_of_its_own(work: str) -> None:
    found = scaling._apart(work, {"images": 4, "batch": 2, "threads": 1})
    assert found["seconds"] > 0
    assert found["bytes"] >= 0


def test_points_differ_in_what_grows() -> None:
    for work, grows, arguments in scaling.points(1000):
        assert work in scaling.WORKS
        assert grows in arguments
