"""The model card of a shared defence: what was attacked, by whom it was judged, and what is not known.

    ---                      YAML, for the hub's search
    library_name, pipeline_tag, tags, datasets
    ---
    # NAME                   how to use it; the audit; the evaluation; what nobody measured

Source: M. Mitchell et al., Model cards for model reporting, FAT* 2019; the front matter is Hugging Face's.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from carso.audit import Audit
from carso.evaluation.results import Results
from carso.report.table import markdown
from carso.report.wording import brief

TEXT = """---
{front}---

# {name}

An image classifier behind CARSO (Counter-Adversarial Recall of Synthetic Observations): an adversarially trained
classifier's own activations condition a variational autoencoder that recalls purified versions of what it sees, and the
same classifier votes over them. The weights are safetensors; their checksums are in `SHA256SUMS`; no code is here.

```python
import carso

defence = carso.CARSO.from_pretrained("{name}")
```

## Attacked as a whole

{audited}
## Evaluated

{evaluated}"""

FOLDER = "a folder"
"""What is told of one that has no name, such as the working folder."""

NOT_AUDITED = """**Not audited.** No attack on the whole of this defence is recorded here: whether it is robust is not
known. `carso audit` finds out.
"""
NOT_EVALUATED = "No evaluation came with these weights.\n"


def card(name: str, data: str | None, audit: Audit | None, results: Results | None) -> str:
    """The text of README.md.

    Args:
        name: of the defence, as `from_pretrained` takes it.
        data: the data set that it was trained on, if it is one by name.
        audit: of these very weights, if there is one.
        results: of an evaluation of them, likewise.
    """
    front = {
        "library_name": "carso",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "adversarial-purification"],
    }
    told = yaml.safe_dump(front | ({"datasets": [data]} if data else {}), sort_keys=False)
    audited = NOT_AUDITED if audit is None else _audited(audit)
    evaluated = NOT_EVALUATED if results is None else markdown(_by_names(results))
    return TEXT.format(front=told, name=name, audited=audited, evaluated=evaluated)


def _by_names(results: Results) -> Results:
    """Results that do not tell in which folders the data and the defence were."""
    return results.model_copy(
        update={name: Path(getattr(results, name)).name or FOLDER for name in ("dataset", "recipe")}
    )


def _audited(audit: Audit) -> str:
    rows = [f"| {budget.title} | {brief(budget.clean)} | {brief(budget.worst_case)} |" for budget in audit.budgets]
    raised = [f"- `{check.name}`: {check.meaning}" for check in audit.raised]
    made = f"of {len(audit.checks)} checks"
    doubts = (
        [f"Raised {made}, by which the figures may be too high:", "", *raised]
        if raised
        else [f"None {made} was raised."]
    )
    data = Path(audit.dataset).name or FOLDER
    return "\n".join(
        [
            f"The whole defence was attacked by `carso audit --effort {audit.effort}` on n = {audit.n:,} images of "
            f"{data}, seed {audit.seed}. Accuracy (%) with its 95 % interval; the worst case is over every "
            "attack, and an upper bound.",
            "",
            "| budget | clean | worst case |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            *doubts,
            "",
        ]
    )
