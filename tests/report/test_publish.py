from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from carso.evaluation import Records, read_results
from carso.report import publish


def test_a_table_that_cannot_be_shown_takes_no_file_away(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object, **__: object) -> None:
        raise BrokenPipeError

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    records = Mock(spec=Records)
    records.results.return_value = read_results(out)
    monkeypatch.setattr(publish, "print_table", unable)
    with pytest.raises(BrokenPipeError):
        publish.publish(records, out)
    assert (out / "report.html").is_file()
    assert "Top-1 accuracy" in (out / "results.md").read_text()
