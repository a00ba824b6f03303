"""Write docs/results.md from the committed results in benchmarks/results.

python -m benchmarks.docs.results
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.docs.early import MARK, before, fewer, lacking, note, raised
from benchmarks.docs.joined import joined
from benchmarks.docs.proof import proof

from carso.audit import Audit, read_audit
from carso.evaluation.results import Rate, Results, read_results
from carso.report import wording
from carso.report.table import markdown
from carso.report.wording import brief
from carso.storage import weights

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
TURNED = RESULTS / "turned-away"
STRANGER = "stranger"
"""The run around a network of others."""
README, PAGE = ROOT / "README.md", ROOT / "docs" / "results.md"
HEAD = """# Results

Every table below is written by `python -m benchmarks.docs.results` from records that runs left; none is typed in. N is
the adversarially trained classifier; CARSO votes on N's answers to the images that its purifier recalls. In the
thesis's protocol an attack is crafted on the column's classifier alone (on N for both defended columns) and handed
over. For CARSO that is a transfer attack: **it says nothing about an attacker who knows of the defence.** That attacker
follows the gradient through the whole of each column, as in the rows headed "End to end" and in the audits.
Foreseen attacks are those that the training of the defence used.

The shipped weights follow the recipes of their names, seed 0. Training again gives weights that are close. N's weights
are equal bit for bit if every sum is rounded alike. The N of `strong-unlabelled` was trained on another processor;
`strong-again` is recipe `strong` on that processor and that N, seed 0.

"""


TARGETS = {
    "cifar10": "the defence around it",
    "cifar10/classifier": "the ResNet of recipe `cifar10` alone",
    "stranger_cifar:net": "the ResNet of recipe `cifar10`, brought along as `benchmarks.own.strangers:cifar10`",
    "CARSO around stranger_cifar:net": "what `carso harden` made of it",
    "fashion": "the hardened defence for Fashion-MNIST",
    "fashion/classifier": "its adversarially trained classifier alone",
    "adversarially_trained": "N alone",
    "carso": "the whole defence, fresh latents in every call",
    "control": "a classifier with as many weights as N and the purifier together, by recipe `control`;\n"
    "its gradients are taken in rounded products, as the defence's are",
    "control-in-float32": "the same classifier, with gradients in float32",
    "fixed": "the whole defence, always with the same four latents, which the attacker knows",
}


def audited(folder: Path) -> str:
    """The worst cases that an audit found for each subject of a folder, budget by budget."""
    found = [read_audit(place) for place in sorted(folder.iterdir())]
    lines = [
        f"## {folder.name}",
        "",
        f"The worst case per image over every attack of `carso audit --effort {found[0].effort}`, each directed at",
        f"the whole of its target and judged again with fresh latents; {images_of(found)}, seed {found[0].seed}.",
        "",
        "| target | budget | clean | worst case | strongest single attack | checks raised |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for audit in found:
        for budget in audit.budgets:
            cells = (
                audit.target,
                budget.title,
                brief(budget.clean),
                brief(budget.worst_case),
                budget.strongest,
                raised(audit),
            )
            lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    legend = ";\n".join(f"`{audit.target}`: {TARGETS[audit.target]}" for audit in found)
    early = ", ".join(f"`{audit.target}`" for audit in found if lacking(audit))
    said = f";\n{before(found)}: {early}" if early else ""
    said += f". Checks {checks}" if (checks := fewer(found)) else ""
    return "\n".join([*lines, "", f"{legend}{said}.", ""])


def images_of(found: list[Audit]) -> str:
    """How many images the audits are of, each for itself where they differ."""
    if len({audit.n for audit in found}) == 1:
        return f"n = {found[0].n}"
    return "n = " + ", ".join(f"{audit.n} of `{audit.target}`" for audit in found)


def seeded(folder: Path) -> str:
    """Means and spreads over the seeds of one recipe."""
    found = json.loads((folder / "seeds.json").read_text(encoding="utf-8"))
    columns = [name for name in ("undefended", "adversarially_trained", "carso") if name in found["rows"][0]]
    lines = [
        f"## {folder.name}",
        "",
        f"Recipe `{found['recipe']}`, trained from nothing with seeds {', '.join(map(str, found['seeds']))}; the",
        f"thesis's protocol, n = {found['n']:,}. Mean of the accuracies (%) ± their sample standard deviation.",
        "",
        "| attack | " + " | ".join(wording.heading(column) for column in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    titled = [(row["title"], row) for row in found["rows"]]
    for budget in found.get("audits", []):
        titled.append((f"worst case of the audit, {budget['title']}, n = {budget['n']:,}", budget))
    for title, row in titled:
        cells = (f"{row[c]['mean']:.2f} ± {row[c]['sd']:.2f}" if c in row else "" for c in columns)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def paired(folder: Path) -> str:
    """Our attacks beside other libraries' on the same images, summed over the seeds."""
    lines = [
        "## Our attacks and others'",
        "",
        "Both attacks have the same budget and steps, and the same images, those that are right when clean. Each is",
        "run once from a random start, and counts are summed over the seeds. `plain` is the readable loop in float32,",
        "`fast` the folded one, in bfloat16 if the processor multiplies it faster. The seconds are the processor's. On",
        "the whole defence an image counts as found if at most half of ten fresh votes on it are right.",
        "",
        "| model | eps | attack | path | other library | seeds | images | found by ours | by theirs | only ours "
        "| only theirs | seconds, ours | theirs |",
        "| --- | ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for path in sorted(folder.glob("*.json")):
        groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
        for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
            key = tuple(entry[name] for name in ("eps", "attack", "path", "peer"))
            groups.setdefault(key, []).append(entry)
        for key, entries in sorted(groups.items(), key=str):
            counts = ("found_ours", "found_theirs", "only_ours", "only_theirs")
            sums = (sum(entry[name] for entry in entries) for name in counts)
            clocks = ("cpu_seconds_ours", "cpu_seconds_theirs")
            seconds = (f"{sum(entry[name] for entry in entries):.1f}" for name in clocks)
            cells = (path.stem, *key, len(entries), entries[0]["n"], *sums, *seconds)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def turned_away(folder: Path) -> str:
    """What a defence that may turn images away made of every row, and what it still got wrong."""
    found = read_results(folder)
    lines = [
        f"## Turned away: {found.recipe}",
        "",
        f"At a false-alarm rate of {found.settings['reject_at']:g}, n = {found.n:,}, seed {found.seed}:",
        f"`{found.command}`.",
        "[does-it-help.md](does-it-help.md) has an attacker who knows that images are rejected.",
        "",
        "| attack | aimed at | rejected | right, of the accepted | accepted and wrong, of all |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in found.rows:
        if (believed := row.believed) is not None:
            right = believed.right
            wrong = Rate.of(right.total - right.correct if right else 0, believed.turned_away.total)
            rates = (brief(believed.turned_away), "" if right is None else brief(right), brief(wrong))
            lines.append(f"| {wording.bare_attack(row)} | {row.directed_at} | {' | '.join(rates)} |")
    return "\n".join([*lines, ""])


def viewpoints(path: Path) -> str:
    """What viewpoints bring, and what training brings beside them."""
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "## Viewpoints",
        "",
        "The purifier of `cifar10`, before and after training, with its viewpoints and without. Each is attacked as",
        f"a whole by {found['steps']} annealed steps on the margin, with {found['samples']} candidates each, at",
        f"Linf 8/255; n = {found['n']} images held out of training, seed {found['seed']}:",
        "`python benchmarks/runs/viewpoints.py`.",
        "",
        "| subject | trained | viewpoints | clean | attacked |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in found["rows"]:
        has = [
            ("yes" if row[name] else "no") if row["subject"] == "CARSO" else "" for name in ("trained", "viewpoints")
        ]
        rates = [brief(Rate.model_validate(row[name])) for name in ("clean", "attacked")]
        lines.append(f"| {' | '.join([row['subject'], *has, *rates])} |")
    return "\n".join([*lines, ""])


def gains(path: Path) -> str:
    """What defences keep above their classifiers, image by image."""
    lines = [
        "## Gains",
        "",
        "The images that a defence keeps in its audit, compared image by image with those that its classifier keeps",
        "in its own (`python -m benchmarks.runs.gains`). The gain is the 95 % confidence interval for pairs",
        "(Newcombe), in points.",
        "",
        "| defence | radius | n, effort | it keeps | its classifier keeps | it alone | its classifier alone | gain |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in json.loads(path.read_text(encoding="utf-8")):
        kept = " | ".join(str(row[name]) for name in ("defence", "classifier", "only_defence", "only_classifier"))
        low, high = row["gain"]
        radius = wording.budget(row["norm"], row["eps"])
        lines.append(f"| {row['name']} | {radius} | {row['n']}, {row['effort']} | {kept} | {low:+.1f} to {high:+.1f} |")
    return "\n".join([*lines, ""])


def measured(folder: Path) -> Results:
    """The results of a run; without the thesis's figures beside a network that is not the thesis's."""
    found = read_results(folder)
    if folder.name != STRANGER:
        return found
    return found.model_copy(update={"rows": [row.model_copy(update={"thesis": None}) for row in found.rows]})


def footnote(folder: Path) -> str:
    """What else is to be said of a run, if anything."""
    if (folder / "harden.json").exists():
        return hardened(folder)
    if folder.name == STRANGER:
        return (
            "\nThe classifier is a robust convolutional network that others trained, used as it is:\n"
            "`carso reproduce benchmarks/own/stranger.yaml --out out/stranger --test-images 2000`.\n"
        )
    return ""


def hardened(folder: Path) -> str:
    """What `carso harden` took, and which purifier it kept."""
    took, choice = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("harden", "choice"))
    rates = {name: Rate.of(rate["correct"], rate["total"]) for name, rate in choice["rates"].items()}
    told = ", ".join(f"{name} {brief(rate)}" for name, rate in rates.items())
    threads = wording.several(took["threads"], "thread", "threads")
    return (
        f"\n`{took['command']}` took {took['minutes']:.1f} minutes\n({took['cpu_minutes']:.1f} of processor time, "
        f"{threads}, {took['cpu']}). It chose the {choice['kept']} purifier. Attacked as a whole on\n"
        f"{rates[choice['kept']].total} held-out images, the purifiers kept this share of the classifier's answers "
        f"(%):\n{told}.\n"
    )


TABLES: dict[str, tuple[dict[str, str | tuple[str, ...]], ...]] = {
    "audits": (
        {
            "no purifier: `robust-cnn`, a CNN behind contrast": ("ladder/robust-cnn", "ladder/robust-cnn-0.15"),
            "no purifier: the control, one CNN with as many weights as CARSO": "strong-audit/control",
            "no purifier: the thesis's classifier behind contrast": "ladder/thesis-contrast",
            "no purifier: the thesis's classifier, adversarially trained": "strong-audit/adversarially_trained",
            "`mnist-thesis`: CARSO around it, as in the thesis": "thesis-audit/carso",
            "`mnist-strong`: CARSO around it, hardened": "strong-audit/carso",
            "no purifier: the same architecture, trained behind contrast": "ladder/strong-contrast-classifier",
            "`mnist-strong-contrast`: CARSO around that one, hardened": "strong-contrast-audit/carso",
        },
    ),
    "other-audits": (
        {
            "Fashion-MNIST: `fashion/classifier`": "fashion-audit/adversarially_trained",
            "Fashion-MNIST: `fashion`, the defence around it": "fashion-audit/carso",
            "CIFAR-10: `cifar10/classifier`, a ResNet": "cifar10-audit/adversarially_trained",
            "CIFAR-10: `cifar10`, the defence around it": "cifar10-audit/carso",
        },
    ),
}
"""Marks of the README, and the tables between them: what a row is of, and where its audit lies."""


def readme(text: str) -> str:
    """The README with the audits' tables between its marks."""
    for mark, tables in TABLES.items():
        opening, closing = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
        above, rest = text.split(opening)
        found = [{name: joined(at) for name, at in rows.items()} for rows in tables]
        shown = "\n".join([*map(worst_cases, found), caption([audit for table in found for audit in table.values()])])
        text = above + opening + shown + closing + rest.split(closing)[1]
    return text


def worst_cases(found: dict[str, Audit]) -> str:
    """A table of audits, by what each is of; empty where one has not attacked at a radius."""
    titles = sorted({(b.norm, b.eps, b.title) for audit in found.values() for b in audit.budgets})
    heads = [title for _, _, title in titles]
    lines = ["| attacked as a whole | n | clean | " + " | ".join(heads) + " | checks raised |"]
    lines.append("| --- | ---: | ---: |" + " ---: |" * len(heads) + " --- |")
    for name, audit in found.items():
        rates = {budget.title: brief(budget.worst_case) for budget in audit.budgets}
        worst = " | ".join(rates.get(head, "") for head in heads)
        mark = f" {MARK}" if lacking(audit) else ""
        lines.append(f"| {name}{mark} | {audit.n:,} | {brief(audit.budgets[0].clean)} | {worst} | {raised(audit)} |")
    return "\n".join([*lines, ""])


def caption(found: list[Audit]) -> str:
    """What all of these audits have in common."""
    (effort,), (seed,) = ({getattr(audit, name) for audit in found} for name in ("effort", "seed"))
    early = f"\n{said}" if (said := note(found)) else ""
    return (
        f"Accuracy (%) of the worst case over every attack of `carso audit --effort {effort}`, with 95 %\n"
        f"intervals; the first n test images, seed {seed}.{early}\n"
    )


def ship() -> None:
    """Put the audits of what ships beside its weights, inside the package, where they are not there already."""
    for name in weights.shipped(weights.CLASSIFIER):
        short, folder = name.removeprefix("mnist-"), weights.find(name, weights.CLASSIFIER)
        audit = read_audit(RESULTS / (f"{short}-audit/carso" if weights.is_whole(name) else f"ladder/{short}"))
        if not (folder / weights.AUDIT).exists() or read_audit(folder) != audit:
            audit.write(folder)


def page() -> str:
    """docs/results.md."""
    runs = sorted(path.parent for path in RESULTS.glob("*/results.json"))
    parts = [f"## {run.name}\n\n{markdown(measured(run))}{footnote(run)}" for run in runs]
    parts += [audited(folder) for folder in sorted(RESULTS.glob("*-audit"))]
    parts += [seeded(path.parent) for path in sorted(RESULTS.glob("*/seeds.json"))]
    parts += [turned_away(path.parent) for path in sorted(TURNED.glob("*/results.json"))]
    if (contests := RESULTS / "paired").exists():
        parts.append(paired(contests))
    if any((shares := RESULTS / "proof").glob("*/proof.json")):
        parts.append(proof(shares))
    if (looks := RESULTS / "viewpoints.json").exists():
        parts.append(viewpoints(looks))
    parts.append(gains(RESULTS / "gains.json"))
    return HEAD + "\n".join(parts)


def main() -> None:
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    ship()


if __name__ == "__main__":
    main()
