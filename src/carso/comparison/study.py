"""The study of rivals as data: who stands in the table, how each is made, and what its literature says.

An entry is one of three:

    rival     a kind and options of `carso.rivals`, around the N that `classifier` names or one that it trains
    recipe    the first stage of a recipe that ships: a network alone
    target    whatever `carso audit` takes; `randomised` puts FiWAGR into its paths
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from carso.audit.effort import Effort
from carso.audit.loading import column_of
from carso.evaluation.results import Percent
from carso.rivals.kinds import RivalSpec, alone, check_trainings, trains
from carso.training import studies
from carso.training.recipe import ClassifierSpec, ClassifierTraining
from carso.training.studies import Part
from carso.types import Norm

NAMES = ("rivals", "rivals-fashion")
"""Of the studies, their files, and their recipes on the command line."""

Path = Literal["representation", "decoder"]
Count = Annotated[int, Field(ge=1)]
Radius = Annotated[float, Field(gt=0, le=100)]


class Place(Part):
    """A ball of a study's audits."""

    norm: Norm
    eps: Radius


class Published(Part):
    """What a paper reports, beside which ours stands.

    Attributes:
        says: the figure in words: of what, under which attack, within which budget.
        source: paper and place.
        differs: why ours is of something else.
        left: accuracy (%) that an adaptive attack left, where it can be compared with ours.
        beside: the ball of the study at which ours is compared with it.
    """

    says: str
    source: str
    differs: str = ""
    left: Percent | None = None
    beside: Place | None = None


class Entry(Part):
    """One line of the table.

    Attributes:
        about: what it is.
        rival: what is built.
        classifier: N, as `carso audit` would be told; by default the study's network, which the rival trains.
        training: a schedule for each of the rival's stages.
        weights_of: the entry whose trained parts it has, N apart.
        recipe: whose first stage it is.
        target: what it is, where it is there already.
        randomised: paths of a CARSO in which gradients are replaced by noise.
        images: how many are audited, where not the study's number.
        effort: of the audit, likewise.
        published: what the literature says.
    """

    about: str
    rival: RivalSpec | None = None
    classifier: str | None = None
    training: tuple[ClassifierTraining, ...] = ()
    weights_of: str | None = None
    recipe: str | None = None
    target: str | None = None
    randomised: tuple[Path, ...] = ()
    images: Count | None = None
    effort: Effort | None = None
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _of_one_kind(self) -> Entry:
        if [self.rival, self.recipe, self.target].count(None) != 2:
            raise ValueError("an entry has one of rival, recipe and target")
        if self.rival is None and (self.classifier or self.training or self.weights_of):
            raise ValueError("classifier, training and weights_of are of a rival")
        if self.rival is not None and trains(self.rival) == (self.classifier is not None):
            raise ValueError(
                f"a rival of kind {self.rival.kind} " + ("trains" if self.classifier else "needs") + " an N"
            )
        if self.randomised and self.target is None:
            raise ValueError("randomised is of a target")
        return self

    @property
    def alone(self) -> bool:
        """Whether it says that it is a network alone, its own N; of a function of the user's nobody can tell."""
        if self.rival is not None:
            return alone(self.rival)
        return self.target is None or column_of(self.target) != "classifier"


class Ball(Part):
    """Attacks of a norm that no training foresaw."""

    norm: Norm
    eps: Radius
    images: Count
    effort: Effort


class Study(Part):
    """What is compared, and how.

    Attributes:
        name: of the study.
        data: as `carso audit --data` would be told.
        images: of an audit, from the first test image.
        effort: of an audit.
        eps: its radii, in Linf.
        unforeseen: the attacks of another norm.
        transfer: whose undefended classifier, adversarial images of which are tried on every entry; none by default.
        network: of those that train their own.
        entries: by name.
    """

    name: str = NAMES[0]
    data: str
    images: Count
    effort: Effort
    eps: Annotated[tuple[Radius, ...], Field(min_length=1)]
    unforeseen: Ball
    transfer: str | None = None
    network: ClassifierSpec = ClassifierSpec()
    entries: dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], Entry]

    @model_validator(mode="after")
    def _of_known_entries(self) -> Study:
        for name, entry in self.entries.items():
            if entry.weights_of is not None:
                self._check_source(name, entry)
            elif entry.rival is not None:
                check_trainings(entry.rival, len(entry.training))
        return self

    def _check_source(self, name: str, entry: Entry) -> None:
        """Hold what an entry takes over to being trained by another of the same kind and options."""
        source = self.entries.get(str(entry.weights_of))
        if source is None or source.rival is None or source.weights_of is not None:
            raise ValueError(f"{name} takes its weights of {entry.weights_of!r}, which trains none")
        if source.rival != entry.rival:
            raise ValueError(f"{name} takes its weights of {entry.weights_of!r}, which is another rival")
        if entry.training:
            raise ValueError(f"{name} takes its weights of {entry.weights_of!r}, and so has no training")

    def chosen(self, names: Sequence[str] = ()) -> dict[str, Entry]:
        """The entries of these names, or all, in the study's order.

        Raises:
            RecipeError: if there is none of a name; near ones are suggested.
        """
        return studies.chosen(self.entries, names, "rival")


def read_study(name: str = NAMES[0]) -> Study:
    """The study that ships under a name, one of `NAMES`."""
    return studies.read(name, Study)
