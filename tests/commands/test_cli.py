import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from carso import __version__
from carso import audit as carso_audit
from carso.audit.results import read_audit
from carso.commands import cli
from carso.commands.options import spread
from carso.commands.shared import LESS_MEMORY, claimed, memory_ran_out, say_which
from carso.defence import CARSO
from carso.errors import CarsoError, RunError
from carso.storage import export, weights
from carso.storage.claim import claim

VERBS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def carso(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "carso", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=200, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    answer = CliRunner().invoke(cli.app, [verb, "--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.output


def test_a_process_explains_itself() -> None:
    answer = carso("--help")
    assert answer.returncode == 0
    assert all(verb in answer.stdout for verb in VERBS)


def test_every_verb_has_its_line_whole_and_the_traceback_is_named() -> None:
    told = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80"}).output
    assert "..." not in told.partition("Commands:")[2]
    assert "--debug" in told


def test_versions_are_told() -> None:
    answer = CliRunner().invoke(cli.app, ["--version"])
    assert answer.exit_code == 0
    assert answer.output.startswith(f"carso {__version__}, torch {torch.__version__}, Python 3.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "thesys"], "did you mean 'thesis'"),
        (["reproduce", "none.yaml"], "none.yaml"),
        (["evaluate", "mnits"], "no defence 'mnits'"),
        (["evaluate", "mnist/classifer"], "no defence 'mnist/classifer'; did you mean 'mnist/classifier'?"),
        (["audit", "mnist-robust-cn/classifier"], "did you mean 'mnist-robust-cnn/classifier'?"),
        (["export", "none"], "mnist-robust-cnn/classifier; or pass a folder of weights; evaluate, audit and export"),
        (["serve", "mnist-robust-cnn"], "audit, take it as mnist-robust-cnn/classifier"),
        (["reproduce", "robust-cnn", "--pretrained"], "carso evaluate mnist-robust-cnn/classifier"),
        (
            ["reproduce", "quick", "--pretrained"],
            "no weights of the recipe quick ship; those of cifar10, fashion, strong, strong-contrast, thesis do",
        ),
        (["predict", "nothing.png"], "nothing.png"),
        (["attack", "mnist", "--attack", "pdg"], "did you mean 'pgd'"),
        (["attack", "mnist", "--eps", "-1"], "eps must lie in (0, 1] for Linf, not -1"),
        (["attack", "mnist", "--eps", "8"], "eps must lie in (0, 1] for Linf, not 8"),
        (["audit", "mnist", "--eps", "2"], "eps"),
        (["attack", "mnist", "--eps", "eight/255"], "a number or a fraction"),
        (["attack", "mnist", "--eps", "0.1", "0.2"], "an attack has one radius, not 2"),
        (["audit", "nothing.here:factory"], "nothing.here:factory"),
        (["attack", "mnist", "--data", "minst"], "did you mean 'mnist'"),
        (["export", "mnits"], "did you mean 'mnist'"),
        (["serve", "mnits"], "did you mean 'mnist'"),
        (["serve", "--onnx", "none.onnx"], "none.onnx"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["carso", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("carso: ")
    assert message in said
    assert "Traceback" not in said
    monkeypatch.setattr(sys, "argv", ["carso", *arguments, "--debug"])
    with pytest.raises(CarsoError):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["attack", "--images", "0"], ("--images", "not 0")),
        (["attack", "--seed", "1.5"], ("--seed", "not 1.5")),
        (["harden", "m:f", "--data", "d", "--minutes", "nan"], ("--minutes", "not nan")),
        (["train", "classifier", "thesis", "--samples", "-3"], ("--samples", "not -3")),
        (["report", "run", "--architecture", "mnist"], ("leave out run",)),
        (["report", "run", "--factory", "m:f"], ("--factory",)),
    ],
)
def test_a_refused_value_is_named(arguments: list[str], named: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(cli.app, arguments)
    assert answer.exit_code == 2
    assert all(word in answer.output for word in named)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_takes_nothing_is_no_fault_of_ours(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "carso", "recipe", "show", "thesis"]
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert answer.returncode == 2
    assert answer.stderr == "carso: no space left on a device that was written to, such as that of standard output\n"


def test_a_closed_output_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "carso", "recipe", "show", "thesis"]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    answer = subprocess.run(shell, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize(
    ("encoding", "text", "told"),
    [
        ("cp1252", "ü: L∞", "ü: L\\u221e"),
        ("ascii", "ü: L∞", "\\xfc: L\\u221e"),
        ("utf-8", "L∞ of \udcff.png", "L∞ of \\udcff.png"),
    ],
)
def test_what_an_output_has_no_character_for_is_spelled(
    encoding: str, text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "app", lambda: print(text))
    monkeypatch.setattr(sys, "argv", ["carso"])
    with (tmp_path / "output").open("w", encoding=encoding) as output:
        monkeypatch.setattr(sys, "stdout", output)
        cli.main()
    assert (tmp_path / "output").read_text(encoding=encoding) == f"{told}\n"


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (2, 2), (3, 3)])
def test_a_reader_that_left_takes_no_status_away(
    status: int, ends: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves() -> None:
        raise BrokenPipeError

    def ends_unread() -> None:
        output.flush = leaves  # type: ignore[method-assign]
        sys.exit(status)

    with (tmp_path / "output").open("w") as output:
        monkeypatch.setattr(cli, "app", ends_unread)
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "argv", ["carso"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        del output.flush
    assert (ended.value.code or 0) == ends


@pytest.mark.parametrize(
    "verb",
    [
        ["report", "--architecture", "mnist-thesis"],
        ["attack", "mnist-thesis", "--images", "2"],
        ["export", "mnist-thesis"],
        ["report", "run"],
    ],
)
def test_a_file_of_somebody_is_not_written_over(verb: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "results.json"
    mine.write_text("precious")
    with pytest.raises(RunError, match=r"results.json exists and is no \.\w+ file; choose another path"):
        CliRunner().invoke(cli.app, [*verb, "--out", str(mine)], catch_exceptions=False)
    assert mine.read_text() == "precious"


def test_a_process_that_is_given_bad_input_ends_without_a_traceback_unless_asked_for(tmp_path: Path) -> None:
    plain, asked = (carso("predict", "nothing.png", *debug, cwd=tmp_path) for debug in ([], ["--debug"]))
    assert plain.returncode == 2
    assert "nothing.png" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in asked.stderr


@pytest.mark.parametrize(
    ("verb", "folder"),
    [
        ("audit", "out/audit-NAME[-reject-at-RATE]"),
        ("evaluate", "out/evaluate-NAME[-reject-at-RATE][-corruptions]"),
        ("reproduce", "out/NAME"),
    ],
)
def test_the_help_of_a_verb_says_where_its_runs_go(verb: str, folder: str) -> None:
    told = CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert f"[default:{folder}]" in "".join(told.split())


def test_an_option_takes_a_list() -> None:
    assert spread(["audit", "mnist", "--eps", "0.15", "0.3", "--seed", "1"]) == [
        "audit",
        "mnist",
        "--eps",
        "0.15",
        "--eps",
        "0.3",
        "--seed",
        "1",
    ]
    assert spread(["audit", "--eps", "1", "--eps", "2"]) == ["audit", "--eps", "1", "--eps", "2"]
    assert spread(["audit", "--eps", "1e-2", "2e-2"]) == ["audit", "--eps", "1e-2", "--eps", "2e-2"]
    assert spread(["audit", "--eps", ".1", "-1", "x", "3"]) == ["audit", "--eps", ".1", "--eps", "-1", "x", "3"]
    assert spread(["--eps", "4/255", "8/255", "mnist"]) == ["--eps", "4/255", "--eps", "8/255", "mnist"]
    assert spread(["attack", "--images", "3", "--eps", "0.5"]) == ["attack", "--images", "3", "--eps", "0.5"]


def test_a_name_that_a_folder_has_too_is_said_to_mean_the_shipped_defence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "purifier.safetensors").touch()
    for target in ("mnist", "mnist/classifier"):
        say_which(target)
        assert capsys.readouterr().err == "mnist is the shipped one; ./mnist is the folder\n"
    for target in ("./mnist", "fashion", "out/mine"):
        say_which(target)
        assert capsys.readouterr().err == ""


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: other\n")
    answer = carso("reproduce", "quick", "--out", str(tmp_path))
    assert answer.returncode == 2
    assert "another recipe or seed" in answer.stderr
    assert (tmp_path / "recipe.yaml").read_text() == "name: other\n"


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        with claimed(tmp_path / "run"):
            (tmp_path / "run" / "kept").touch()
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["carso", "evaluate", "my defence"])
    with pytest.raises(SystemExit) as ended:
        interrupted()
    said = capsys.readouterr().err
    assert ended.value.code == 130
    assert f"what was done is kept in {tmp_path / 'run'}. To go on" in said
    assert said.endswith("    carso evaluate 'my defence'\n")
    with claim(tmp_path / "run"):
        assert (tmp_path / "run" / "kept").exists()


def test_the_architecture_is_drawn_and_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    told = ["report", "--architecture", "mnist-thesis", "--out", str(tmp_path / "a.svg")]
    answer = CliRunner().invoke(cli.app, told)
    assert answer.exit_code == 0, answer.output
    assert "784" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert CliRunner().invoke(cli.app, ["report"]).exit_code == 2


@pytest.mark.parametrize("alone", [False, True])
def test_export_may_be_of_the_classifier_alone(alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = create_autospec(export.export)
    monkeypatch.setattr(export, "export", fake)
    told = ["export", "mnist-thesis", "--out", str(tmp_path / "n.onnx"), *["--classifier"] * alone]
    answer = CliRunner().invoke(cli.app, told)
    assert answer.exit_code == 0, answer.output
    assert fake.call_args.kwargs["classifier_only"] == alone


def test_export_takes_the_classifier_of_a_defence_and_one_without_a_defence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = create_autospec(export.export)
    monkeypatch.setattr(export, "export", fake)
    classifier = weights.load("mnist-thesis").classifier
    weights.save_classifier(classifier, tmp_path / "mine" / weights.CLASSIFIER)
    monkeypatch.chdir(tmp_path)
    for source, whole in (("mnist-thesis/classifier", True), ("mine/classifier", False)):
        answer = CliRunner().invoke(cli.app, ["export", source])
        assert answer.exit_code == 0, answer.output
        (model, path, _), told = fake.call_args
        assert isinstance(model, CARSO) == whole
        assert weights.digest(model.classifier if whole else model) == weights.digest(classifier)
        assert told["classifier_only"]
        assert path == Path("out") / f"{source.replace('/', '-')}.onnx"


@pytest.mark.parametrize(
    ("target", "file", "name"),
    [
        (("runs/a/mine",), "runs-a-mine", "mine"),
        (("runs/b/mine",), "runs-b-mine", "mine"),
        (("runs/b/mine", "--classifier"), "runs-b-mine-classifier", "mine"),
        (("runs/b/mine/classifier",), "runs-b-mine-classifier", "mine/classifier"),
        (("./runs/b/mine",), "runs-b-mine", "mine"),
        (("runs/a/../b/mine",), "runs-b-mine", "mine"),
    ],
)
def test_exports_of_several_targets_do_not_take_each_others_place(
    target: tuple[str, ...], file: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = create_autospec(export.export)
    monkeypatch.setattr(export, "export", fake)
    for run in ("a", "b"):
        shutil.copytree(weights.find("mnist-thesis"), tmp_path / "runs" / run / "mine")
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(cli.app, ["export", *target])
    assert answer.exit_code == 0, answer.output
    assert fake.call_args.args[1] == Path("out") / f"{file}.onnx"
    assert fake.call_args.kwargs["name"] == name


def test_an_exported_file_does_not_tell_where_its_defence_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = create_autospec(export.export)
    monkeypatch.setattr(export, "export", fake)
    shutil.copytree(weights.find("mnist-thesis"), tmp_path / "mine")
    answer = CliRunner().invoke(cli.app, ["export", str(tmp_path / "mine"), "--out", str(tmp_path / "n.onnx")])
    assert answer.exit_code == 0, answer.output
    assert fake.call_args.kwargs["name"] == "mine"


@pytest.mark.parametrize(("name", "status"), [("mnist-strong", 0), ("mnist-strong-contrast", 3)])
def test_a_raised_check_is_exit_status_3(
    name: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = read_audit(weights.find(name))
    assert bool(shipped.raised) == (status == 3)
    fake = create_autospec(carso_audit.audit, return_value=shipped)
    monkeypatch.setattr(carso_audit, "audit", fake)
    told = "--eot 3 --chunk 4 --seed 5 --images 6 --norm L2 --eps 1.0"
    answer = CliRunner().invoke(cli.app, ["audit", name, *told.split(), "--out", str(tmp_path)])
    assert answer.exit_code == status, (answer.output, answer.exception)
    asked = fake.call_args.kwargs
    assert [asked[each] for each in ("eot", "chunk", "seed", "n", "norm")] == [3, 4, 5, 6, "L2"]


def test_an_unforeseen_error_is_short_unless_debugged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["carso", "evaluate"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert "unforeseen ZeroDivisionError: by zero" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["carso", "evaluate", "--debug"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("fail", "asked"),
    [
        (lambda: torch.empty(10**15), r" \(4000000000000000 bytes more were asked for\)"),
        (lambda: np.empty(10**15), r" \(7\.11 PiB more were asked for\)"),
        (lambda: bytearray(10**16), ""),
        (
            lambda: raise_(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
            r" \(2.00 GiB .*\)",
        ),
    ],
)
def test_memory_that_ran_out_is_named_with_what_to_set(
    fail: Callable[[], object], asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["carso", "evaluate"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"carso: memory ran out{asked}; set fewer --images or a smaller --chunk\n", said)
    monkeypatch.setattr(sys, "argv", ["carso", "evaluate", "--debug"])
    with pytest.raises((RuntimeError, MemoryError)):
        cli.main()


def test_a_verb_is_told_to_set_its_own_options_alone() -> None:
    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for verb, advice in LESS_MEMORY.items():
        named = set(re.findall(r"--[a-z-]+", advice))
        assert named <= {option for parameter in verbs[verb].params for option in parameter.opts}, verb
    assert memory_ran_out(MemoryError(), "report") == "memory ran out"


def test_an_unforeseen_message_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "app", lambda: raise_(ZeroDivisionError("x" * 10**5)))
    monkeypatch.setattr(sys, "argv", ["carso", "evaluate"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert len(capsys.readouterr().err) < 600


@pytest.mark.parametrize(
    "verb",
    [
        ("reproduce", "quick"),
        ("train", "classifier", "quick"),
        ("train", "purifier", "quick"),
        ("evaluate", "mnist"),
        ("audit", "mnist"),
    ],
)
def test_a_folder_in_use_is_left_alone(verb: tuple[str, ...], tmp_path: Path) -> None:
    with claim(tmp_path):
        before = sorted(tmp_path.iterdir())
        answer = CliRunner().invoke(cli.app, [*verb, "--out", str(tmp_path)])
        assert isinstance(answer.exception, CarsoError)
        assert f"{tmp_path} is in use by process {os.getpid()} " in str(answer.exception)
        assert sorted(tmp_path.iterdir()) == before
