"""The commands of docs/several-machines.md: each is one that torch's launcher and the verbs understand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.efforts import timeless
from torch.distributed.run import get_args_parser

from carso.audit import read_audit
from carso.commands import cli

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "several-machines.md").read_text(encoding="utf-8")
LINES = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ").splitlines()
LAUNCHED = [line for line in LINES if line.startswith("torchrun ")]


def verb(arguments: list[str]) -> str:
    """The verb of a line of arguments, all of which it understands."""
    command = typer.main.get_command(cli.app)
    for name in [argument for argument in arguments if not argument.startswith("-")][:2]:
        command = command.commands[name]  # type: ignore[attr-defined]
        arguments = arguments[1:]
        if not hasattr(command, "commands"):
            break
    return str(command.make_context(str(command.name), list(arguments)).info_name)


@pytest.mark.parametrize("line", LAUNCHED)
def test_the_launcher_and_the_verb_understand_the_line(line: str) -> None:
    given = get_args_parser().parse_args(shlex.split(line)[1:])
    assert (given.module, given.training_script) == (True, "carso")
    assert verb(given.training_script_args) in {"purifier", "evaluate", "audit", "reproduce"}


def test_the_other_lines_are_of_files_that_are_there() -> None:
    others = [shlex.split(line) for line in LINES if line not in LAUNCHED]
    assert [words[0] for words in others] == ["export", "sbatch", "python"]
    for words in others[1:]:
        assert any((ROOT / word).is_file() for word in words)
    _, batch, _ = others
    assert verb(batch[batch.index("examples/slurm/carso.sbatch") + 1 :]) == "purifier"


def test_the_file_of_slurm_counts_processes_where_there_are_no_gpus() -> None:
    text = (ROOT / "examples" / "slurm" / "carso.sbatch").read_text(encoding="utf-8")
    told = [shlex.split(line) for line in re.findall(r"^#     (sbatch .*)$", text, re.MULTILINE)]
    assert [verb(words[words.index("carso.sbatch") + 1 :]) for words in told] == ["purifier", "audit", "audit"]
    without = ["--gpus-per-node" in words for words in told]
    assert without == [any("PER_NODE=" in word for word in words) for words in told] == [False, False, True]


@pytest.mark.slow
def test_an_evaluation_of_the_page_runs_by_two(tmp_path: Path) -> None:
    line = next(line for line in LAUNCHED if " evaluate " in line)
    words = shlex.split(line.replace("-node 4", "-node 2").replace("10000", "16"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words[1:]], cwd=tmp_path, env=environment, check=True
    )
    assert (tmp_path / "out" / "table" / "results.json").exists()


def test_ten_thousand_images_come_to_the_same_by_four_processes() -> None:
    records = [read_audit(ROOT / "benchmarks" / "results" / "ten-thousand" / who) for who in ("one", "four")]
    one, four = map(timeless, records)
    assert one["n"] == 10_000
    assert one == four
