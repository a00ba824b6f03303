import pytest

from carso import CARSO
from carso.ablations import cost
from carso.ablations.cost import Work, announce, seconds_of
from carso.data import Dataset
from carso.evaluation import Row
from carso.training.plan import Cost
from carso.types import Budget

ROWS = (Row("none"), Row("fgsm", Budget("Linf", 0.1)), Row("pgd-eot", Budget("Linf", 0.1), directed_at="defence"))


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack on N takes 1 s and 10 ms an image, one on the whole 2 s and 20 ms, a vote 3 s and 30 ms."""
    times = {"classifier": 1, "defence": 2, "vote": 3}
    taken: list[float] = []

    def spend(kind: str, n: int) -> None:
        taken.append(times[kind] * (1 + n / 100))

    def timed(work):  # type: ignore[no-untyped-def]
        work()
        return None, taken[-1]

    monkeypatch.setattr(cost, "_craft", lambda defence, test, rows, aim, n: spend(aim, n))
    monkeypatch.setattr(cost, "_vote", lambda defence, test, stop, n: spend("vote", n))
    monkeypatch.setattr(cost, "timed", timed)


@pytest.mark.usefixtures("costly")
def test_what_is_measured_on_few_images_is_extrapolated(defence: CARSO) -> None:
    work = Work(classifiers=2, defences=5, runs=7, images=1000)
    found = seconds_of(work, lambda: defence, Dataset.__new__(Dataset), ROWS, "never")
    assert found == pytest.approx(11 * (2 * 1 + 5 * 2 + 7 * len(ROWS) * 3))


def test_a_few_images_are_not_tried() -> None:
    work = Work(1, 1, 1, cost.SOME)
    assert seconds_of(work, lambda: pytest.fail("built"), Dataset.__new__(Dataset), ROWS, "never") == 0


def test_a_trial_is_of_true_attacks_and_votes(defence: CARSO, held_out: Dataset) -> None:
    work = Work(classifiers=1, defences=1, runs=1, images=100)
    assert 0 < seconds_of(work, lambda: defence, held_out, ROWS, "never") < 60


def test_the_whole_cost_is_said_where_it_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Cost("purifier", epochs=10, batches=100, batch=0.06, setup=0.0, validation=0.0, weights=5)
    announce([stage], 30.0)
    said = capsys.readouterr().err
    assert "purifier: 5 weights" in said
    assert "about 1 min 30 s: trainings 1 min 00 s, evaluations 30 s" in said
    announce([], 5.0)
    assert capsys.readouterr().err == ""
