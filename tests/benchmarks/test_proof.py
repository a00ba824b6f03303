import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.docs.proof import proof
from benchmarks.runs.proof import spending, spent


def share(first: int, **others: Any) -> dict[str, Any]:
    return {"first": first, "n": 1000, "left": 930, "seconds": 1500.0, **others}


def test_the_time_of_what_was_interrupted_is_not_lost(tmp_path: Path) -> None:
    def interrupted() -> None:
        with spending(tmp_path / "state" / "seconds"):
            sum(range(10**6))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first = spent(tmp_path / "state" / "seconds")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 0 < first < spent(tmp_path / "state" / "seconds")


def test_shares_are_added_up_in_the_order_of_the_images(tmp_path: Path) -> None:
    beside = {"n": 250, "left": 231, "left_by_audit": 229, "only_audit": 3, "only_autoattack": 1, "seconds": 1000.0}
    for name, found in (("10", share(9000)), ("2", share(2000, left=900, autoattack=beside))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "proof.json").write_text(json.dumps(found))
    page = proof(tmp_path)
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows[:2]] == ["2,000 to 2,999", "9,000 to 9,999"]
    assert "| 2,000 | 91.50 [90.20, 92.64] | 1.50 |" in rows[2]
    assert "| 10,000 | 92.81 [92.29, 93.30] |" in rows[3]
    assert "AutoAttack leaves 231 here, in 4.00 s each, the audit 229" in page
    assert "audit alone: 3; by AutoAttack alone: 1." in page


def test_images_are_not_counted_twice(tmp_path: Path) -> None:
    for name, found in (("0", share(0, n=2000)), ("1", share(1000))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "proof.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match="in two shares"):
        proof(tmp_path)
