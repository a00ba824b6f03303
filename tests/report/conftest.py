"""A small evaluated run with everything that may lie beside its results, and a reader of the pages made of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from carso import CARSO
from carso.audit.diagnostics import Diagnostics
from carso.audit.results import AttackResult, Audit, BudgetResult, Check, Turned
from carso.data.dataset import Dataset
from carso.evaluation import FGSM_L2, THESIS, Row, Settings, curve, evaluate, read_results
from carso.evaluation.environment import environment
from carso.evaluation.results import Believed, Rate
from carso.nn import MLP
from carso.purifier import Purifier
from carso.types import Budget

SHAPE = (1, 6, 6)
END_TO_END = Row("pgd", Budget("Linf", 0.3), directed_at="defence", options={"steps": 2}, eot=2)
ROWS = (THESIS[0], THESIS[1], THESIS[5], THESIS[3], FGSM_L2[0], END_TO_END)
RATE, WORST = Rate.of(3, 4), Rate.of(0, 4)
MEASURED = Diagnostics(
    images=4, zero_gradients=0, saturated=0, spread=0, finite_differences=0, disagreement=0, unbounded=0
)
ONE = {"seconds": 1.0, "on": "all", "attacked": 3}
BUDGET = BudgetResult(
    norm="Linf",
    eps=0.3,
    clean=RATE,
    worst_case=WORST,
    attacks=[
        AttackResult(name="apgd-dlr", result=WORST, kind="white-box", **ONE),
        AttackResult(
            name="autoattack", result=RATE, kind="cross-check", options={"left_out": "needs 'carso[audit]'"}, **ONE
        ),
    ],
    mean=0,
    worst_of_k=WORST,
    white_box=WORST,
    strongest="apgd-dlr",
    diagnostics=MEASURED,
)
CHECKS = [
    Check(name="zero gradients", raised=True, value=0.42, threshold=0.1, meaning="The loss is flat."),
    Check(name="softmax output", raised=False, value=0, threshold=0.5, meaning="The outputs are probabilities."),
]
TURNED = Turned(
    clean=Believed(false_alarms=0.01, turned_away=WORST, right=RATE),
    attacked=Believed(false_alarms=0.01, turned_away=RATE, right=None),
)
HISTORY = [
    {"stage": stage, "epoch": e, "loss": 1 / (e + 1), "seconds": 2} for stage in ("n", "purifier") for e in range(3)
]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only lose by sharing the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def evaluated(directory: Path, seed: int = 0, rows: tuple[Row, ...] = ROWS) -> Path:
    """Evaluate tiny random networks on noise."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bare, n = (MLP(SHAPE, hidden=(12, 8), classes=4).eval() for _ in range(2))
        columns = {
            "undefended": bare,
            "adversarially_trained": n,
            "carso": CARSO(n, Purifier(SHAPE, neurons=24, latent=3), samples=60),
        }
        dataset = Dataset("noise", torch.rand(40, *SHAPE), torch.randint(4, (40,)), tuple("abcd"))
    settings = Settings(seed=seed, curve_images=10, sweep_images=10)
    points = (curve()[0], *curve(steps=2)[1::3])
    command = "carso evaluate tiny"
    evaluate(columns, dataset, rows, settings, recipe="tiny", command=command, directory=directory, curve_rows=points)
    return directory


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to read only."""
    directory = evaluated(tmp_path_factory.mktemp("finished"))
    (directory / "history.json").write_text(json.dumps(HISTORY))
    audited().model_copy(update={"weights": read_results(directory).weights["carso"]}).write(directory)
    (directory / "recipe.yaml").write_text("name: tiny # <b>not bold</b>\n")
    return directory


@pytest.fixture(scope="session")
def bare_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the thesis protocol alone, with nothing beside it."""
    return evaluated(tmp_path_factory.mktemp("bare"), rows=ROWS[:3])


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Evaluates tiny networks of a seed into a folder."""
    return evaluated


def audited() -> Audit:
    """An audit of a deterministic target, of no weights and no data that it tells."""
    return Audit(
        target="tiny",
        n=4,
        seed=0,
        budgets=[BUDGET],
        checks=CHECKS,
        dataset="",
        effort="quick",
        votes=1,
        random=False,
        environment=environment(),
    )


@pytest.fixture
def audit() -> Audit:
    """What an `audit.json` holds."""
    return audited()


@pytest.fixture
def turning() -> Audit:
    """An audit of a target that turns images away: none of the clean ones, three of four attacked."""
    budgets = [BUDGET.model_copy(update={"turned_away": TURNED})]
    return audited().model_copy(update={"target": "it, turning away 1 %", "budgets": budgets})


VOID = {"meta", "link", "img", "br", "input"}


@dataclass
class Element:
    """A tag with its attributes, text and children."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def all(self, tag: str | None = None, style: str | None = None) -> list[Element]:
        """Every descendant of that tag and class, in order."""
        found = []
        for child in self.children:
            if (tag is None or child.tag == tag) and (style is None or style in child.classes):
                found.append(child)
            found += child.all(tag, style)
        return found

    def get(self, identifier: str) -> Element:
        """The descendant of that id."""
        return next(element for element in self.all() if element.attributes.get("id") == identifier)


class Reader(HTMLParser):
    """Builds the tree and insists that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        if closed.tag != tag:
            raise ValueError(f"</{tag}> closes <{closed.tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.pieces.append(data)


@pytest.fixture(scope="session")
def read() -> Callable[[str], Element]:
    """Reads a page into a tree, as a browser would, but forgives nothing."""

    def parse(page: str) -> Element:
        reader = Reader()
        reader.feed(page)
        reader.close()
        if len(reader.open) != 1:
            raise ValueError(f"<{reader.open[-1].tag}> is never closed")
        return reader.root

    return parse
