import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from carso import progress as module
from carso.progress import duration, note, progress, track, weighed


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, fresh_progress: None) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def spend(clock: Clock, seconds: float, steps: int, description: str = "work") -> Iterator[int]:
    for step in track(range(steps), description):
        clock.now += seconds
        yield step


def test_gives_every_item_once() -> None:
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert list(track(iter([1, 2]), "numbers")) == [1, 2]
    assert list(track([], "nothing")) == []


def test_nothing_is_said_of_work_that_ends_within_two_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert sum(1 for _ in spend(clock, 0.0199, 100)) == 100
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_every_fifteen_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    list(spend(clock, 1, 40, "training [1/2]"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training [1/2]: 5%, 38 s left",
        "training [1/2]: 42%, 23 s left",
        "training [1/2]: 80%, 8 s left",
    ]


def test_short_works_in_a_row_share_the_fifteen_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(10):
        list(spend(clock, 1, 3))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_bar_within_another_is_part_of_its_step(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(4), "epochs"):
        list(spend(clock, 1, 10, "batches"))
    assert capsys.readouterr().err.splitlines() == [
        "epochs: 5%, 38 s left; batches: 20%, 8 s left",
        "epochs: 42%, 23 s left; batches: 70%, 3 s left",
        "epochs: 80%, 8 s left; batches: 20%, 8 s left",
    ]


def test_what_takes_longer_counts_for_more(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in weighed({"long": 90.0, "short": 10.0}, "both"):
        for _ in spend(clock, 15, 3, "within"):
            pass
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "both: 30%, 35 s left; within: 33%, 30 s left"
    assert lines[3].startswith("both: 93%, ")


def test_a_line_leaves_out_what_has_hardly_begun(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(40), "epochs"):
        list(spend(clock, 0.5, 2, "batches"))
    assert capsys.readouterr().err.splitlines()[0] == "epochs: 5%, 38 s left"


def test_an_unknown_total_shows_what_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track((step for step in range(3)), "reading"):
        clock.now += 1.5
    assert capsys.readouterr().err.splitlines() == ["reading: 2 done, 3 s so far"]


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_speed(clock: Clock) -> None:
    with progress("resumed", total=100, completed=50) as bar:
        assert bar.left is None
        clock.now += 10
        bar.advance(10)
        assert bar.fraction == pytest.approx(0.6)
        assert bar.left == pytest.approx(40)


def test_an_error_closes_the_bar(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress("failing", total=2):
        raise ZeroDivisionError
    assert module._display.bars == []
    list(spend(clock, 2, 1, "next"))
    assert capsys.readouterr().err.splitlines() == ["next: 100%, 0 s left"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (3600.0, "1 h 00 min"),
        (7530.0, "2 h 05 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_closed_standard_error_is_survived(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert len(list(spend(clock, 1, 20))) == 20
    assert out.getvalue() == ""


SCRIPT = """
import time
from carso import progress
progress.DELAY = {delay}
for epoch in progress.track(range(2), "epochs [bold]"):
    for batch in progress.track(range(10), "batches"):
        time.sleep(0.05)
    print("epoch", epoch)
"""


def on_a_terminal(script: str) -> tuple[str, str]:
    """What a script writes to standard output, a pipe, and to standard error, a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: read_terminal(ours), b""))
        os.close(ours)
        out, _ = process.communicate()
    assert process.returncode == 0
    return out, seen.decode()


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side has hung up
        return b""


def test_a_terminal_gets_bars_and_standard_output_stays_clean() -> None:
    out, err = on_a_terminal(SCRIPT.format(delay=0.1))
    assert out == "epoch 0\nepoch 1\n"
    for word in ("epochs [bold]", "batches", "left", "━"):
        assert word in err
    assert err.count("\x1b[?25l") == err.count("\x1b[?25h") == 1, "the cursor comes back"


def test_a_terminal_sees_nothing_of_short_work() -> None:
    assert on_a_terminal(SCRIPT.format(delay=60)) == ("epoch 0\nepoch 1\n", "")


def test_a_note_is_one_line_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    long = "left out: " + "a" * 200 + " [bold] caf"
    for text in (f"{long}\udce9", "another", f"{long}\udce9"):
        note(text)
    assert capsys.readouterr() == ("", f"{long}\\udce9\nanother\n")


def test_a_note_stands_above_the_bars() -> None:
    script = """
import time
from carso import progress
progress.DELAY = 0.05
with progress.progress("work", 2) as bar:
    bar.advance()
    time.sleep(0.6)
    progress.note("left out: one")
    time.sleep(0.4)
"""
    out, err = on_a_terminal(script)
    assert out == ""
    assert err.index("work") < err.index("left out: one\r\n") < err.rindex("work")
