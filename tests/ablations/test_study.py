import pytest

from carso.ablations.study import Study, read_study, recipe_of
from carso.errors import RecipeError
from carso.training.reading import read_recipe
from carso.training.studies import parsed

ABLATED = {
    ("adversarial", "attacks"),
    ("purification", "attacks"),
    ("purification", "reconstruction"),
    ("purifier", "widths"),
    ("purifier", "hidden"),
    ("purifier", "layers"),
    ("purifier", "representation"),
}


def test_every_training_differs_from_the_base_in_what_it_says_alone() -> None:
    study = read_study()
    base = read_recipe(study.base)
    for name, variant in study.variants.items():
        if variant.recipe is None:
            continue
        recipe = recipe_of(variant, name, base)
        changed = {
            (section, field)
            for section in ("classifier", "adversarial", "purifier", "purification")
            for field, value in getattr(base, section)
            if getattr(getattr(recipe, section), field) != value
        }
        assert changed == {(section, field) for section, fields in variant.recipe.items() for field in fields}
        assert changed <= ABLATED
        assert (recipe.seed, recipe.data, recipe.undefended) == (base.seed, base.data, None)


def test_the_shipped_study_has_what_it_should() -> None:
    study = read_study()
    changes = [v.intervention for v in study.variants.values() if v.intervention]
    assert {c.samples for c in changes if not (c.code or c.latent or c.aggregation)} >= {1, 700, 1500, 3000}
    assert {c.aggregation for c in changes} == {None, "mean-logit", "mean-probability", "exponential", "peel"}
    assert {c.code for c in changes} == {None, "noise", "another"}
    assert all("line" in statement.place for statement in study.statements)


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(RecipeError, match="no ablation 'code-noises'; did you mean 'code-noise'"):
        read_study().chosen(["code-noises"])


@pytest.mark.parametrize(
    ("variant", "claim", "message"),
    [
        ("{about: x}", "", "either a recipe or an intervention"),
        ("{about: x, intervention: {code: others}}", "", "variants.a.intervention.code"),
        ("{about: x, intervention: {samples: 3}}", "{of: [b], relation: above}", "claim is of 'b'"),
        ("{about: x, intervention: {samples: 3}}", "{of: [a], relation: within}", "a range go together"),
    ],
)
def test_a_study_that_is_wrong_is_refused(variant: str, claim: str, message: str) -> None:
    statement = f"statements: [{{says: s, place: p, claims: [{claim}]}}]" if claim else ""
    with pytest.raises(RecipeError, match=message):
        parsed(f"base: thesis\nimages: 3\nvariants: {{a: {variant}}}\n{statement}", Study)
