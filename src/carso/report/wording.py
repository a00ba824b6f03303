"""The words for what results hold as codes, so that table and page say the same."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from carso.evaluation.protocol import Row
from carso.evaluation.results import Believed, Rate, ResultRow, Results
from carso.types import Scale, spelled


@runtime_checkable
class Bounded(Protocol):
    """Whatever has an accuracy with its interval, in percent."""

    accuracy: float
    ci95: tuple[float, float]


HEADINGS = {"undefended": "Undefended", "adversarially_trained": "Adversarial training", "carso": "CARSO"}
TOLD = {
    "undefended": "the undefended network",
    "adversarially_trained": "adversarial training",
    "carso": "CARSO",
    "classifier": "the classifier",
}
ATTACKS = {
    "none": "No attack",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "deepfool": "DeepFool",
    "apgd": "Auto-PGD",
    "pgd-eot": "Annealed PGD",
    "spsa": "SPSA",
    "spatial": "Worst pose",
}
TRAINED = {
    "untrained": "as it was before training",
    "unhardened": "after its first stage",
    "hardened": "after its last stage",
}
"""The purifiers of a hardening."""

PLAIN = "Classifier alone"
"""A classifier that is not known to be trained against attacks."""

NORMS = {"Linf": "L∞", "L2": "L2", "L1": "L1", "severity": "severity"}


def heading(column: str, adversarial: bool = True) -> str:
    """A column's name as people read it; `adversarial` as results have it."""
    if column == "adversarially_trained" and not adversarial:
        return PLAIN
    return HEADINGS.get(column, column.replace("_", " ").capitalize())


def told(column: str, adversarial: bool = True) -> str:
    """A column's name within a sentence."""
    if column == "adversarially_trained" and not adversarial:
        return "the classifier alone"
    return TOLD.get(column, column.replace("_", " "))


def name_of(attack: str) -> str:
    """How people write the name of an attack or of a corruption."""
    return ATTACKS.get(attack, attack.replace("-", " ").capitalize())


def budget(norm: Scale, eps: float) -> str:
    """A budget, such as "L∞ 0.30", or "severity 3"."""
    if norm == "severity":
        return f"{NORMS[norm]} {eps:g}"
    return f"{NORMS[norm]} {eps:.2f}" if eps == round(eps, 2) else f"{NORMS[norm]} {spelled(eps)}"


def attack(row: ResultRow) -> str:
    """The attack with its budget, such as "PGD L∞ 0.30", with the images behind it if aimed at the defence."""
    if row.directed_at == "classifier":
        return bare_attack(row)
    return f"{bare_attack(row)}, n = {count(row):,}"


def bare_attack(row: ResultRow) -> str:
    """The attack with its budget alone."""
    name = name_of(row.attack)
    return name if row.norm is None else f"{name} {budget(row.norm, row.eps)}"


def count(row: ResultRow) -> int:
    """The images behind a row."""
    return max((rate.total for rate in row.rates().values()), default=0)


def fewer(results: Results) -> int | None:
    """The images behind the rows aimed at the defence, where they are fewer than the run's n."""
    counts = [count(row) for row in results.rows if row.directed_at == "defence" and row.rates()]
    return max(counts) if counts and max(counts) < results.n else None


def named(row: Row) -> str:
    """The attack of a row of the protocol with its budget, and its aim where that is the whole defence."""
    name = name_of(row.attack)
    if row.budget is None:
        return name
    aim = ", end to end" if row.directed_at == "defence" else ""
    return f"{name} {budget(row.budget.norm, row.eps)}{aim}"


def best(row: ResultRow) -> str | None:
    """The defended column that leads, if there are several."""
    return leader({name: rate for name, rate in row.rates().items() if name != "undefended"})


def leader(rates: Mapping[str, Rate]) -> str | None:
    """Whose interval lies wholly above all others', if there are others."""
    if len(rates) < 2:
        return None
    first, *rest = sorted(rates, key=lambda name: rates[name].accuracy, reverse=True)
    return first if rates[first].ci95[0] > max(rates[name].ci95[1] for name in rest) else None


def percent(rate: Rate) -> str:
    """An accuracy with two decimals, as the thesis prints it."""
    return f"{rate.accuracy:.2f}"


def brief(found: Bounded) -> str:
    """An accuracy and its interval with one decimal, such as "84.4 [82.7, 85.9]"."""
    low, high = found.ci95
    return f"{found.accuracy:.1f} [{low:.1f}, {high:.1f}]"


def interval(rate: Rate) -> str:
    """The interval in brackets."""
    return f"[{rate.ci95[0]:.2f}, {rate.ci95[1]:.2f}]"


def groups(rows: list[ResultRow], whole: bool = False) -> dict[str, list[ResultRow]]:
    """The rows by what they may be compared with, as `GROUPS` has it.

    Attacks aimed at the bare classifier and attacks aimed at the whole defence never share a group. Where nobody
    attacks, the clean row stands with the corruptions. `whole` is as results have it.
    """
    kinds, own = {row.norm for row in rows if row.norm}, "itself" if whole else "own"
    further = "transfer" if any(row.thesis for row in rows) else "corruptions" if kinds == {"severity"} else own
    parts: dict[str, list[ResultRow]] = {name: [] for name in GROUPS}
    for row in rows:
        parts[_group(row, further)].append(row)
    return {name: listed for name, listed in parts.items() if listed}


def _group(row: ResultRow, further: str) -> str:
    if row.norm == "severity":
        return "poses" if row.directed_at == "defence" else "corruptions"
    return "defence" if row.directed_at == "defence" else "thesis" if row.thesis else further


GROUPS = {
    "thesis": (
        "Thesis protocol",
        "Attacks crafted on the bare classifier, then handed to every column: a transfer threat model for CARSO.",
    ),
    "transfer": (
        "Thesis protocol, further rows",
        "Crafted on the bare classifier in the same way; the thesis's table does not have these rows.",
    ),
    "own": (
        "On the classifier",
        "Attacks crafted on the bare classifier, then handed to every column: a transfer threat model for CARSO.",
    ),
    "itself": (
        "On the column itself",
        "Attacks crafted on each column itself, through its surrogate if it has one: no classifier can be seen in it.",
    ),
    "defence": (
        "End to end",
        "Attacks aimed at each whole defence, their gradients flowing through the purifier. These are not comparable "
        "with the rows above.",
    ),
    "corruptions": (
        "Corruptions",
        "What happens to images without anyone meaning it, from severity 1 to 5; every column sees the same images.",
    ),
    "poses": (
        "Worst poses",
        "Every image turned and moved to where each column is nearest to a mistake, within the severity's range.",
    ),
}
"""Title and explanation of each group."""

ALONE = {
    "thesis": "Attacks crafted on the bare classifier, then handed to every column.",
    "own": "Attacks crafted on the bare classifier, then handed to every column.",
    "defence": "Attacks aimed at each column as a whole. These are not comparable with the rows above.",
}
"""Explanations of groups where there is no CARSO among the columns."""

_PARTLY = (
    "Attacks crafted on the bare classifier where one can be seen, which for a defence is a transfer threat model; "
    "elsewhere on the column itself."
)
PARTLY = {
    "thesis": _PARTLY,
    "transfer": "Crafted in the same way; the thesis's table does not have these rows.",
    "own": _PARTLY,
}
"""Explanations of groups where no classifier can be seen in some of the columns."""


def kind(group: str) -> str:
    """What a row of the group is."""
    return {"corruptions": "corruption", "poses": "pose"}.get(group, "attack")


def several(count: int, one: str, many: str) -> str:
    """How many of what, such as "1 check" or "16 checks"."""
    return f"{count:,} {one if count == 1 else many}"


def explanation(group: str, columns: Container[str], hidden: bool = False) -> str:
    """What a group's rows are; `hidden` where no classifier can be seen in some column."""
    if hidden and group in PARTLY:
        return PARTLY[group]
    told = GROUPS[group][1]
    return told if "carso" in columns else ALONE.get(group, told)


def crafted(column: str, runs: Iterable[Results]) -> str:
    """What attacks on the classifier were crafted on for this column of the runs."""
    hidden = {column in results.hidden for results in runs}
    if hidden == {True}:
        return "crafted on the whole of it"
    return "crafted on the classifier alone" + (" where one can be seen" if True in hidden else "")


def met(columns: Collection[str], hidden: Container[str]) -> str:
    """What attacks on the classifier met in these columns, `hidden` being those in which no classifier can be seen."""
    seen = [column for column in columns if column not in hidden]
    if not seen:
        return "each column itself"
    return "the bare classifier" + (" where one can be seen" if len(seen) < len(columns) else "")


def doubts(results: Results, beside: bool = False) -> Iterator[str]:
    """What makes some of the figures mean less than they seem to, a sentence each.

    Where no classifier can be seen in any column, the page of the run says so itself; not that of runs `beside` it.
    """
    if results.hidden and (beside or not results.whole):
        names = _listed(results, results.hidden)
        yield f"No classifier can be seen in {names}: attacks on the classifier are there crafted on the whole."
    if results.flat:
        names = _listed(results, results.flat)
        yield (
            f"The gradient of {names} is zero on most images: what attacks that follow it leave there says nothing; "
            "`carso audit` attacks without one as well."
        )


def _listed(results: Results, columns: list[str]) -> str:
    return ", ".join(told(column, results.adversarial) for column in columns)


@runtime_checkable
class Turning(Protocol):
    """What was turned away of the clean images, and of the worst ones of an audit."""

    @property
    def clean(self) -> Believed:
        """Of the clean ones."""

    @property
    def attacked(self) -> Believed:
        """Of the worst ones."""


def away(found: Turning) -> str:
    """What an audit's target turned away, which the rates of its budget count as right."""
    return f"Counted as right: what is turned away. Clean: {_away(found.clean)}. Worst images: {_away(found.attacked)}."


def _away(found: Believed) -> str:
    right = "none believed" if found.right is None else f"{brief(found.right)} % of the believed right"
    return f"{brief(found.turned_away)} % turned away, {right}"


def measure(turning: bool) -> str:
    """What the rates of an audit's budget are of."""
    return "right or turned away" if turning else "accuracy"


def believed(found: Believed) -> str:
    """What a defence turned away, and how many of the others are right."""
    right = "no image believed" if found.right is None else f"{percent(found.right)} % of the others right"
    return f"{percent(found.turned_away)} % turned away, {right}"
