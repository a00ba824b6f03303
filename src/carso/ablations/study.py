"""A study as data: the base, its variants, and the statements about them that are to be tested.

    variants:    NAME: {about, recipe: {fields over the base's}}           has a training of its own
                 NAME: {about, intervention: {code, latent, samples, ...}} is the trained base, changed at inference
    statements:  {says, place, claims: [{of, column, relation, than, range, rows, some}], reason}

It ships as `recipes/studies/ablations.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from carso.evaluation.results import Percent
from carso.training import studies
from carso.training.reading import derived
from carso.training.recipe import Recipe
from carso.training.studies import Part
from carso.vote import MOST, Aggregation

NAME = "ablations"
BASE = "base"
"""What the base is called among the variants."""

VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Column = Literal["carso", "adversarially_trained"]
Rows = Literal["attacked", "foreseen", "unforeseen", "clean"]
Relation = Literal["above", "below", "not-above", "not-below", "within"]


class Intervention(Part):
    """What is changed of a trained defence.

    Attributes:
        code: what stands in the place of c: noise with its components' distributions, or another image's code.
        latent: what z is fixed at.
        samples: K.
        aggregation: of the candidates' answers.
    """

    code: Literal["noise", "another"] | None = None
    latent: Literal["zero"] | None = None
    samples: Annotated[int, Field(gt=0, le=MOST)] | None = None
    aggregation: Aggregation | None = None


class Variant(Part):
    """The base but for one thing: by a training of its own, or by an intervention at inference."""

    about: str
    recipe: dict[str, Any] | None = None
    intervention: Intervention | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Variant:
        if (self.recipe is None) == (self.intervention is None):
            raise ValueError("a variant has either a recipe or an intervention")
        return self

    @property
    def change(self) -> dict[str, Any]:
        """What it has other than the base."""
        return self.model_dump(mode="json", include={"recipe", "intervention"}, exclude_none=True)

    @property
    def attacked_as_base(self) -> bool:
        """Whether whoever attacks it meets the base: it only votes otherwise."""
        change = self.intervention
        return change is not None and change.code is None and change.latent is None


class Reference(Part):
    """Whom a claim compares with: a column of a variant, by default of the base."""

    variant: VariantName = BASE
    column: Column = "carso"


class Claim(Part):
    """A comparison of accuracies, row by row, that a statement implies.

    Attributes:
        of: whose; each variant is compared by itself.
        column: of these variants.
        relation: to `than`, or to the `range`.
        than: the other side.
        range: of accuracies, in percent, for `within`.
        rows: on which rows crafted on N alone, as the thesis's are.
        some: whether one row is enough.
    """

    of: Annotated[tuple[VariantName, ...], Field(min_length=1)]
    column: Column = "carso"
    relation: Relation
    than: Reference = Reference()
    range: tuple[Percent, Percent] | None = None
    rows: Rows = "attacked"
    some: bool = False

    @model_validator(mode="after")
    def _with_its_range(self) -> Claim:
        if (self.relation == "within") != (self.range is not None):
            raise ValueError("relation: within and a range go together")
        return self


class Statement(Part):
    """What is stated of ablations, where, and by which claims it is tested; without any, the reason why not."""

    says: str
    place: str
    claims: tuple[Claim, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _tested_or_not(self) -> Statement:
        if bool(self.claims) == bool(self.reason):
            raise ValueError("a statement has either claims or the reason why it has none")
        return self


class Study(Part):
    """The base by the name of its recipe, how many images by default, the variants and the statements."""

    base: str
    images: Annotated[int, Field(gt=0)]
    variants: dict[VariantName, Variant]
    statements: tuple[Statement, ...] = ()

    @model_validator(mode="after")
    def _of_known_variants(self) -> Study:
        claims = [claim for statement in self.statements for claim in statement.claims]
        named = {name for claim in claims for name in (*claim.of, claim.than.variant)}
        if BASE in self.variants:
            raise ValueError(f"no variant can be called {BASE!r}")
        if unknown := named - {*self.variants, BASE}:
            raise ValueError(f"a claim is of {min(unknown)!r}, which is no variant")
        return self

    def chosen(self, names: Sequence[str] = ()) -> dict[str, Variant]:
        """The variants of these names, or all, in the study's order.

        Raises:
            RecipeError: if there is none of a name; near ones are suggested.
        """
        return studies.chosen(self.variants, names, "ablation")


def recipe_of(variant: Variant, name: str, base: Recipe) -> Recipe:
    """The recipe of a variant that is trained: the base's, without a classifier for comparison, which the base has."""
    changes = {"name": f"{NAME}-{name}", "undefended": None, **(variant.recipe or {})}
    return derived(base, changes, f"ablation {name}")


def read_study() -> Study:
    """The study that ships."""
    return studies.read(NAME, Study)
