from pathlib import Path

import pytest

from carso.errors import CarsoError, RunError
from carso.evaluation.protocol import protocol_at
from carso.hardening.hardening import rows_of
from carso.hardening.plan import EXPORTED, LEAST, MOST, SAFETY, SHARES, Plan, Rates, Request, planned, read_plan
from carso.hardening.proposal import EPOCHS, LEAST_BATCHES, fitted, least, proposed
from carso.training.plan import Cost
from carso.training.recipe import PurifierSpec
from carso.types import Norm

REQUEST = Request.of("a.b:c", "pictures", (8 / 255,), "Linf", 30.0, 0)
RECIPE = proposed("x", "a.b:c", "pictures", REQUEST.eps, "Linf", 0, PurifierSpec())
ROWS = protocol_at(REQUEST.eps, "Linf").rows
RATES = Rates(classifier=0.001, defence=0.003, vote=0.01, deepfool=0.1)


def costs(batch: float = 0.5, batches: int = 300) -> list[Cost]:
    return [Cost(name, 1, batches, batch, 20.0, 2.0, 7) for name in ("purifier", "hardening")]


def plan(minutes: float = 30.0, images: int = 10_000, rates: Rates = RATES, stages: list[Cost] | None = None) -> Plan:
    stages = stages or costs()
    stock = dict.fromkeys(LEAST, images)
    return planned(REQUEST, RECIPE, stages, rates, ROWS, stock, 60 * minutes, ["look"])


def seconds(found: Plan, stages: list[Cost], rates: Rates = RATES) -> float:
    schedules = (found.recipe.purification, found.recipe.hardening)
    training = sum(cost.of(schedule).seconds for cost, schedule in zip(stages, schedules, strict=True) if schedule)
    choice = found.chosen_on * rates.choice(found.recipe.purifier, 1)
    return training + choice + EXPORTED + found.evaluated * rates.evaluation(ROWS) + found.audited * rates.audit(1)


def test_an_images_seconds_are_the_gradients_of_its_rows() -> None:
    one_step, pgd, whole = 1, 40, 100
    expected = (one_step + pgd) * 0.001 + 0.1 + whole * (0.001 + 0.003) + len(ROWS) * 0.01
    assert RATES.evaluation(ROWS) == pytest.approx(expected)
    assert RATES.choice(PurifierSpec(), 1) == pytest.approx(2 * (2 * 40 * 0.003 + 3 * 0.01))
    assert RATES.choice(PurifierSpec(kind="corrective"), 2) == pytest.approx(3 * (2 * 2 * 40 * 0.003 + 5 * 0.01))
    assert RATES.audit(2) == pytest.approx(2 * RATES.audit(1))


@pytest.mark.parametrize("minutes", [8.0, 12.0, 30.0, 120.0, 600.0])
@pytest.mark.parametrize("batch", [0.01, 0.5])
def test_a_plan_fits_the_time_and_uses_it(minutes: float, batch: float) -> None:
    stages = costs(batch)
    found = plan(minutes, stages=stages)
    taken, time = seconds(found, stages), SAFETY * 60 * minutes
    assert taken <= time + 1e-6
    most = all(
        schedule and schedule.epochs == EPOCHS[1] for schedule in (found.recipe.purification, found.recipe.hardening)
    )
    assert most or taken > 0.8 * time
    assert LEAST["audit"] <= found.audited <= MOST["audit"]
    assert LEAST["choice"] <= found.chosen_on <= MOST["choice"]
    assert LEAST["evaluation"] <= found.evaluated <= MOST["evaluation"]


def test_more_time_is_never_less_of_anything() -> None:
    found = [plan(minutes) for minutes in (8.0, 12.0, 30.0, 120.0)]
    for part in ("chosen_on", "evaluated", "audited"):
        counts = [getattr(each, part) for each in found]
        assert counts == sorted(counts)


def test_no_more_images_are_planned_than_there_are() -> None:
    found = plan(images=7)
    assert (found.chosen_on, found.evaluated, found.audited) == (7, 7, 7)


def test_evaluation_and_audit_keep_to_their_shares() -> None:
    found = plan(60.0)
    assert found.evaluated * RATES.evaluation(ROWS) <= SHARES["evaluation"] * 3600
    assert found.audited * RATES.audit(1) <= SHARES["audit"] * 3600
    assert found.chosen_on * RATES.choice(found.recipe.purifier, 1) <= SHARES["choice"] * 3600


def test_what_is_too_short_says_the_least_which_then_does() -> None:
    with pytest.raises(CarsoError, match=r"--minutes 1 is too short .* \(training 54 s, export 30 s, ") as error:
        planned(
            REQUEST.model_copy(update={"minutes": 1.0}),
            RECIPE,
            costs(),
            RATES,
            ROWS,
            dict.fromkeys(LEAST, 1000),
            60.0,
            [],
        )
    words = str(error.value).split()
    plan(float(words[words.index("do") + 3]))


def test_an_epoch_is_cut_where_ten_whole_ones_take_too_long() -> None:
    stages = costs(0.5, 300)
    short = fitted(RECIPE, stages, least(stages) + 200).purification
    long = fitted(RECIPE, stages, 1e5).purification
    assert short is not None
    assert long is not None
    assert short.batches is not None
    assert LEAST_BATCHES <= short.batches < 300
    assert (long.batches, long.epochs) == (None, EPOCHS[1])


def test_a_stage_never_takes_longer_than_its_time() -> None:
    for batches in (1, 5, 12, 300):
        stages = costs(0.5, batches)
        for spare in (0.0, 1.0, 30.0, 1000.0):
            found = fitted(RECIPE, stages, least(stages) + spare)
            schedules = (found.purification, found.hardening)
            taken = sum(cost.of(s).seconds for cost, s in zip(stages, schedules, strict=True) if s)
            assert taken <= least(stages) + spare + 1e-6


def test_a_plan_is_kept_and_belongs_to_its_command(tmp_path: Path) -> None:
    assert read_plan(tmp_path, REQUEST) is None
    (found := plan()).write(tmp_path)
    assert read_plan(tmp_path, REQUEST) == found
    for field, value in {"minutes": 29.0, "data": "others", "seed": 1, "layers": ("output",)}.items():
        with pytest.raises(RunError, match=rf"another command \(other {field}\); choose another --out"):
            read_plan(tmp_path, REQUEST.model_copy(update={field: value}))


@pytest.mark.parametrize("content", ["", "{}", '{"request": 3}', "[" * 10_000])
def test_a_damaged_plan_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RunError, match=r"plan\.json: .*; it is damaged or of another version; choose another --out"):
        read_plan(tmp_path, REQUEST)


@pytest.mark.parametrize("minutes", [float("inf"), float("nan")])
def test_the_time_has_an_end(minutes: float) -> None:
    with pytest.raises(CarsoError, match=f"--minutes must be a finite number, not {minutes}"):
        Request.of("a:b", "d", (0.1,), "L2", minutes, 0)


@pytest.mark.parametrize("spelled", ["pictures/", "./pictures", "pictures"])
def test_a_folder_may_be_written_in_another_way(spelled: str, tmp_path: Path) -> None:
    (found := plan()).write(tmp_path)
    assert read_plan(tmp_path, REQUEST.model_copy(update={"data": spelled})) == found


@pytest.mark.parametrize(
    ("eps", "norm", "message"),
    [
        ((8.0,), "Linf", r"eps must lie in \(0, 1\] for Linf, not 8: images are in \[0, 1\]; did you mean 8/255\?"),
        ((0.1, 2000.0), "Linf", r"for Linf, not 2000: images are in \[0, 1\]$"),
        ((0.0,), "L2", "eps must be a positive number, not 0"),
        ((float("nan"),), "L1", "eps must be a positive number, not nan"),
        ((float("inf"),), "L1", "eps must be a positive number, not inf"),
        ((), "L2", "at least one --eps"),
    ],
)
def test_radii_that_cannot_be_are_refused(eps: tuple[float, ...], norm: Norm, message: str) -> None:
    with pytest.raises(CarsoError, match=message):
        Request.of("a:b", "d", eps, norm, 1.0, 0)


def test_radii_in_other_norms_are_as_large_as_images_make_them() -> None:
    made = proposed("x", "a:b", "d", Request.of("a:b", "d", (12.0, 300.0), "L1", 1.0, 0).eps, "L1", 0, PurifierSpec())
    assert made.purification is not None
    assert [spec.eps for spec in made.purification.attacks] == [12.0, 300.0]


@pytest.mark.parametrize("name", ["my-models:build", "models", "a b:c", "a:b.c"])
def test_a_function_that_no_recipe_can_name_is_refused_first(name: str) -> None:
    with pytest.raises(CarsoError, match=rf"'{name}' must be package\.module:function, .*; rename a file"):
        Request.of(name, "d", (0.1,), "L2", 1.0, 0)


def test_radii_are_kept_in_order_and_once() -> None:
    assert Request.of("a:b", "d", (0.3, 0.1, 0.3), "L2", 1.0, 0).eps == (0.1, 0.3)


def test_the_recipe_needs_no_label_and_hardens_against_attacks_on_the_whole() -> None:
    assert RECIPE.purification is not None
    assert RECIPE.hardening is not None
    assert {RECIPE.purification.labels, RECIPE.hardening.labels} == {"predicted"}
    assert "defence" in {spec.directed_at for spec in RECIPE.hardening.attacks}
    assert {spec.eps for spec in RECIPE.hardening.attacks} == {8 / 255}


def test_the_rows_know_what_the_recipe_trains_against() -> None:
    """Attacks on the whole defence, whatever their name in training, make the row of such attacks a foreseen one."""
    aims = {spec.directed_at for spec in RECIPE.hardening.attacks if spec.eps == REQUEST.eps[0]}  # type: ignore[union-attr]
    assert "defence" in aims
    rows = {row.attack: row.foreseen for row in rows_of(RECIPE, REQUEST)}
    assert rows["pgd-eot"]
    assert not rows["deepfool"]
    assert rows.keys() == {row.attack for row in ROWS}
