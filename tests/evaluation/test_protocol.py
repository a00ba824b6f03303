import pytest

from carso.evaluation.protocol import CURVE_EPS, FGSM_L2, TABLE, THESIS, Row, curve
from carso.types import Budget


def test_the_table_is_the_thesiss_ten_rows_and_three_of_the_other_reading() -> None:
    listed = [(row.attack, row.norm, row.eps) for row in TABLE]
    linf = [(attack, "Linf", eps) for attack in ("fgsm", "pgd", "deepfool") for eps in (0.15, 0.30, 0.50)]
    assert listed == [("none", None, 0), *linf, *(("fgsm", "L2", eps) for eps in (0.15, 0.30, 0.50))]
    assert {row.directed_at for row in TABLE} == {"classifier"}
    assert len(THESIS) == 10
    assert all(row.thesis is not None for row in THESIS)
    assert all(row.thesis is None for row in FGSM_L2)


def test_foreseen_are_the_attacks_of_training() -> None:
    foreseen = {(row.attack, row.eps) for row in TABLE if row.foreseen}
    assert foreseen == {("none", 0), ("fgsm", 0.15), ("fgsm", 0.30), ("pgd", 0.15), ("pgd", 0.30)}


def test_the_published_figures_stand_in_their_columns() -> None:
    published = {row.key: row.thesis for row in THESIS}
    assert published["pgd-Linf-0.3-classifier-alpha=0.01,random_start=True,steps=40"] == {
        "undefended": 6.85,
        "adversarially_trained": 71.26,
        "carso": 86.27,
    }


def test_every_row_has_a_key_of_its_own() -> None:
    rows = [*TABLE, *curve("defence"), Row("pgd", Budget("Linf", 0.3), directed_at="defence", eot=10)]
    assert len({row.key for row in rows}) == len(rows)


def test_the_curve_crosses_every_ball_and_meets_the_table() -> None:
    clean, *attacked = curve()
    assert clean.attack == "none"
    assert [row.eps for row in attacked] == list(CURVE_EPS)
    assert all(row.options["steps"] * row.options["alpha"] > row.eps for row in attacked)
    assert {row.key for row in attacked} & {row.key for row in THESIS} == {
        "pgd-Linf-0.3-classifier-alpha=0.01,random_start=True,steps=40"
    }


def test_a_budget_goes_with_an_attack() -> None:
    with pytest.raises(ValueError, match="only 'none'"):
        Row("pgd")
    with pytest.raises(ValueError, match="only 'none'"):
        Row("none", Budget("L2", 1.0))
