"""Write docs/published-design.md from benchmarks/results/published.

python -m benchmarks.docs.published
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.docs.early import note, raised
from benchmarks.runs.published_design import FILE, PUBLISHED

from carso.audit import Audit, read_audit
from carso.evaluation.interval import sign
from carso.evaluation.results import Rate
from carso.report.wording import brief
from carso.training.reading import read_recipe
from carso.types import spelled

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "published"
ELSEWHERE = ROOT / "benchmarks" / "results" / "cifar10-audit" / "adversarially_trained"

HEAD = """# The published CARSO, audited

Written by `python -m benchmarks.docs.published` from `benchmarks/results/published`; no measured figure is typed in.

The later CARSO paper (E. Ballarin, A. Ansuini and L. Bortolussi, 2023) evaluates its defence end to end. The purifier
makes candidates, purified versions of an image; N, the adversarially trained classifier, answers each; the answers are
aggregated. AutoAttack's `rand` follows the gradient through purifier, classifier and *aggregation*. One fresh answer to
each image that it finds decides. The aggregation of the published code, called peel, is

    p = softmax over classes k of the sum over candidates i of exp(l_ik),
    handed on as log(p / (1 - p)),

with l_ik the logit of class k by candidate i.

"""


def findings(found: dict[str, Any]) -> str:
    """What it comes to."""
    attacks = found["attacks"]
    claimed = Rate.model_validate(attacks["peel"]["rates"]["peel"])
    true, alone = (Rate.model_validate(attacks[a]["rates"][b]) for a, b in (("before", "peel"), ("classifier",) * 2))
    return f"""**In short.** With peel, the published protocol leaves {cell(claimed)} % right. The same attack on
the same images leaves {cell(true)} % if it follows the candidates' answers before the aggregation.
N alone, without any purifier, keeps {cell(alone)} % under it: {than(alone, true)} the defence, and
{than(alone, claimed)} what the protocol says of the defence.

"""


def than(one: Rate, other: Rate) -> str:
    """The one beside the other, as far as the interval of their difference tells."""
    return {1: "more than", -1: "fewer than", 0: "not to be told apart from"}[sign(one.above(other))]


def arithmetic(samples: int, classes: int) -> str:
    """When peel's gradient is no number."""
    gap = math.log((classes - 1) * 2**24)
    lead = math.log(1 + gap / samples)
    return f"""## Why the aggregation matters

In float32 p is rounded to 1 as soon as the best class's sum leads by {gap:.1f}. With {samples} equal candidates whose
other logits are 0, that is as soon as their logit leads by {lead:.2f}. Then log(p / (1 - p)) is infinite, and its
gradient is infinity times 0, which is NaN. The sign of NaN is 0, so PGD and Auto-PGD stand still. AutoAttack's check
for vanished gradients does not notice: it looks for zeros. No answer changes. An attacker who differentiates the
candidates' logits, *before* the aggregation, meets no NaN. `tests/test_vote.py` tests this arithmetic.

"""


def measured(found: dict[str, Any]) -> str:
    """What was measured, and on what."""
    settings, machine, options = found["settings"], found["environment"], found["settings"]["classifier"]
    clean, training = found["attacks"]["clean"]["rates"]["classifier"], read_recipe("cifar10-published").purification
    assert training is not None
    batch, whole = training.batch, training.epochs
    steps = max(attack.steps for attack in training.attacks if attack.attack == "pgd")
    short = settings.get("training")
    less = (
        ""
        if short is None
        else f"""
The purifier had less training than published, for want of machines: {short["images"]:,} images in place of 45,000,
{short["epochs"]} epochs in place of {whole}, PGD of {short["steps"]} steps in place of {steps}
(`python -m benchmarks.runs.published_short OUT`). A purifier trained as published may recall more sharply, and keep
more. What peel hides does not depend on that: the control below hides as much without any purifier.
"""
    )
    network = f"a residual network of {options['blocks']} blocks, {options['width']} channels in the first group"
    return f"""## What was measured

The author's weights could not be had, and the published classifier (a WRN-28-10 of others) was not attacked here.
Recipe `cifar10-published` trains the published purifier, with its layers' sizes, loss, optimiser and schedule, around
an N of our own: {network}, adversarially trained,
{cell(clean)} % right on the clean images.
So what follows is about the design and its evaluation, not about the published figures.
{less}
Five things differ from the published code on purpose.

- The purifier was trained at the declared budget; the code multiplies it by about four.
- The `mode` counts votes. The code's count takes the rounded-down quotient of each logit and the largest one, which is
  below 0 where a logit is.
- The `mean-probability` is that of softmaxes. The code takes sigmoids, and hands on the log-odds of their mean.
- N is a smaller network, so its representation is read from fewer convolutions.
- The attacks on N are made once and kept, and batches are of {batch} instead of 5,120, at the published rate per image.

Gradients are taken in bfloat16 if the processor multiplies it faster; answers never are.

{settings["data"]}, the first n = {settings["n"]:,} test images, Linf {spelled(settings["eps"])},
{settings["samples"]} candidates, seed {settings["seed"]}; gradients averaged per step: {settings["eot"]}
(AutoAttack's default is 20; fewer make it weaker, if anything);
AutoAttack's own code, version `rand` of package pyautoattack;
{machine["cpu"]}, torch {machine["torch"]}, carso {machine["carso"]}.

"""


def cell(rate: dict[str, Any] | Rate) -> str:
    """An accuracy with its interval."""
    return brief(rate if isinstance(rate, Rate) else Rate.model_validate(rate))


def table(found: dict[str, Any], audits: dict[str, Audit]) -> str:
    """Attacks down, aggregations across."""
    attacks = found["attacks"]
    clean, before = (attacks[name]["rates"] for name in ("clean", "before"))
    through = {name: attacks[name]["rates"][name] for name in PUBLISHED}
    worst = {name: audit.budgets[0].worst_case for name, audit in audits.items() if name in PUBLISHED}
    rows: list[tuple[str, Mapping[Any, Any]]] = [
        ("none", clean),
        ("the published protocol, through the aggregation", through),
        ("the same attack before the aggregation", before),
    ]
    if worst:
        one = next(audit for name, audit in audits.items() if name in worst)
        rows.append((f"`carso audit`, {one.effort}, n = {one.n}", worst))
    lines = ["| attack | " + " | ".join(PUBLISHED) + " |", "| --- |" + " ---: |" * len(PUBLISHED)]
    for name, rates in rows:
        lines.append(f"| {name} | " + " | ".join(cell(rates[a]) if a in rates else "" for a in PUBLISHED) + " |")
    return "## The table\n\nAccuracy (%), with 95 % confidence intervals.\n\n" + "\n".join(lines) + "\n\n"


def controls(found: dict[str, Any], audits: dict[str, Audit]) -> str:
    """N alone, and behind nothing but peel."""
    attacks = found["attacks"]
    alone, masked = (attacks[name]["rates"]["classifier"] for name in ("classifier", "copies"))
    audited = ""
    if "classifier" in audits:
        larger = read_audit(ELSEWHERE)
        here, there = (one.budgets[0].worst_case for one in (audits["classifier"], larger))
        audited = f" An audit of N leaves\n{cell(here)}; one of {larger.n} images, in README, leaves {cell(there)}."
    samples = found["settings"]["samples"]
    return f"""The control has no purifier. N alone keeps {cell(alone)} % under the same attack. Behind peel over
{samples} copies of its own logits, which change none of its answers, N keeps {cell(masked)} %.{audited}

"""


def doubts(audits: dict[str, Audit]) -> str:
    """What the audits say of themselves."""
    lines = ["| audited | n | effort | checks raised |", "| --- | ---: | --- | --- |"]
    for name, audit in audits.items():
        lines.append(f"| {name} | {audit.n:,} | {audit.effort} | {raised(audit)} |")
    return """## What the audits doubt

An audit attacks the candidates' logits whatever the aggregation; so one audit stands for all, and other cells above are
empty. It judges an image by ten fresh answers, and raises `non-finite-gradients` if the gradient of the answer itself
is NaN ([audit.md](audit.md)).

""" + "\n".join([*lines, "", note(audits.values())]).rstrip()


def seconds(found: dict[str, Any]) -> str:
    """What each attack took."""
    took = ", ".join(f"{name} {about['seconds']:,.0f}" for name, about in found["attacks"].items())
    return f"\n\n{fill(f'Seconds that the attacks and their answers took: {took}.', 120, break_on_hyphens=False)}\n"


def page(found: dict[str, Any], audits: dict[str, Audit]) -> str:
    """The whole page."""
    parts = [
        HEAD,
        findings(found),
        arithmetic(found["settings"]["samples"], found["settings"]["classifier"]["classes"]),
        measured(found),
    ]
    parts += [table(found, audits), controls(found, audits)]
    return "".join(parts) + (doubts(audits) if audits else "") + seconds(found)


def main() -> None:
    found = json.loads((RESULTS / FILE).read_text(encoding="utf-8"))
    folders = {name: RESULTS / f"audit-{name}" for name in ("classifier", *PUBLISHED)}
    audits = {name: read_audit(folder) for name, folder in folders.items() if (folder / "audit.json").exists()}
    (ROOT / "docs" / "published-design.md").write_text(page(found, audits), encoding="utf-8")


if __name__ == "__main__":
    main()
