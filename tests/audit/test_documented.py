"""docs/audit.md names every check, with the threshold at which it is raised; docs/other-libraries.md runs."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.audit.conftest import cut_down
from tests.efforts import shorten
from torch import nn

from carso.audit import audit
from carso.audit.checks import DOUBTS
from carso.data import Dataset

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "audit.md").read_text(encoding="utf-8")


def test_every_check_is_explained_with_its_threshold() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", TEXT.split("## The checks")[1], re.MULTILINE))
    assert list(rows) == [doubt.name for doubt in DOUBTS]
    for doubt in DOUBTS:
        assert not doubt.threshold or f"over {doubt.threshold:g} " in rows[doubt.name], doubt.name


def can_run(code: str) -> bool:
    """Whether what a block imports is here: some libraries are not of the extra `dev`."""
    missing = {name for name in re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE) if not find_spec(name)}
    assert missing <= {"foolbox", "torchattacks", "pyautoattack"}, missing
    return not missing


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which torch.compile itself looks at
def test_the_code_for_libraries_and_leaderboards_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/other-libraries.md in order, but those of a library that is not here."""
    shorten(monkeypatch, "quick", tuning=5)
    page = (DOCS / "other-libraries.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if can_run(code):
            exec(code, names)
    assert 0 <= names["robust"] < names["clean"] <= 1  # type: ignore[operator]
    assert names["judged"]


def test_the_code_for_a_classifier_that_turns_images_away_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, "quick", tuning=5)
    names = run("## A defence that turns images away")
    assert names["found"].accepted.float().mean() > 0.5


def test_the_code_for_what_was_found_image_by_image_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset, plain: nn.Module, robust: nn.Module
) -> None:
    cut_down(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for folder, model in (("audit", robust), ("audit-of-another", plain)):
        audit(model, dataset, effort="quick", eps=(0.3,), n=20, out=Path("out") / folder)
    names = run("# Audits", 1, dataset=dataset)
    assert names["worst"].images.shape == names["clean"].shape


def run(heading: str, place: int = 0, **names: Any) -> dict[str, Any]:
    """What a section's block of code leaves."""
    section = TEXT.split(f"{heading}\n")[1].split("\n## ")[0]
    exec(re.findall(r"```python\n(.*?)```", section, re.DOTALL)[place], names)
    return names
