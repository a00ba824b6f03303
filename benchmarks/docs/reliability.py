"""Write docs/reliability.md from benchmarks/results/reliability/*.json.

python -m benchmarks.docs.reliability
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMES = ("p50", "p95", "max")
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
VERSIONS = ROOT / "benchmarks" / "results" / "versions.json"
HEAD = """# Reliability

Written by `python -m benchmarks.docs.reliability` from `benchmarks/results/reliability`
and `benchmarks/results/versions.json`; no figure is typed in.
"""


def where(found: dict[str, Any]) -> str:
    machine = found["environment"]
    return f"{machine['cpu']}, Python {machine['python']}, torch {machine['torch']}, carso {machine['carso']}."


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows)) + "\n"


def damaged(found: dict[str, Any]) -> str:
    readers, inputs = found["readers"], found["inputs"]
    read, refused = (sum(each[kind] for each in readers) for kind in ("read", "refused"))
    return f"""
## Damaged files

`python benchmarks/runs/fuzz.py --inputs {inputs}` damages {inputs} inputs of each of {len(readers)} readers of images,
weights, records and recipes: bits are flipped, parts are cut out, swapped or doubled, headers promise too much, fields
have other types. Of these inputs {read:,} were read as what they still say, and {refused:,} were refused in one short
line that names the file. There was no other error, no hang over five seconds, no gigabyte of memory. The tests repeat
it with 60 inputs each. `benchmarks/results/reliability/fuzz.json` has the counts of each reader.
{where(found)}
"""


def killed(found: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = [
        (f"`{each['verb']}`", each["kills"], each["resumed"], each["equal"], len(each["left_over"]))
        for each in found["verbs"]
    ]
    return f"""
## Killed processes

`python benchmarks/runs/kills.py` ends each verb by `kill -9` at random moments and runs it again to its end. The
weights, figures and verdicts are those of an unbroken run, and no file of a killed run is left.
{where(found)}

{table(("verb", "kills", "resumed", "equal ends", "files left over"), rows)}"""


def loaded(found: dict[str, Any]) -> str:
    return f"""
## A crowded demo

`python benchmarks/runs/demo_load.py` lets many users pick, attack, vote and upload at once, on the machine that serves
them. A refused interaction is told when to come back. The {found["cores"]} cores were not idle before the runs.
{where(found)}
{"".join(map(crowd, found["runs"]))}"""


def crowd(run: dict[str, Any]) -> str:
    memory = run["MiB"]
    rows: list[tuple[object, ...]] = [
        (name, each["done"], each["failed"], each["refused"], *(f"{each['seconds'][at]:.2f}" for at in TIMES))
        for name, each in run["interactions"].items()
    ]
    return f"""
{run["users"]} users for {run["seconds"]} seconds; the machine's load before was {run["load_before"]}. Memory (MiB):
{memory["start"]:.0f} at the start, {memory["half"]:.0f} half-way, {memory["peak"]:.0f} at its peak,
{memory["end"]:.0f} at the end.

{table(("interaction", "done", "failed", "refused", *(f"{at} (s)" for at in TIMES)), rows)}"""


def tried(found: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for version, each in found["versions"].items():
        rows.append(
            (each["python"], each["packages"]["torch"], *each["tried"].values()) if each else (version, "not tried")
        )
    head = ("Python", "torch", *next(each["tried"] for each in found["versions"].values() if each))
    return f"""
## Versions of Python

`python benchmarks/runs/versions.py` builds the wheel, installs it into an empty environment of every Python that
`pyproject.toml` names, and uses it there, outside the checkout. The table has seconds, on a machine with other work.

{table(head, rows)}"""


def page() -> str:
    """docs/reliability.md."""
    parts = [HEAD]
    for name, told in (("fuzz", damaged), ("kills", killed), ("demo", loaded)):
        if (path := RESULTS / f"{name}.json").exists():
            parts.append(told(json.loads(path.read_text(encoding="utf-8"))))
    if VERSIONS.exists():
        parts.append(tried(json.loads(VERSIONS.read_text(encoding="utf-8"))))
    return "".join(parts)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
