"""JSON by its schema: what is there is read strictly, what is wrong is one line that names file, field and remedy."""

from pathlib import Path

import pytest

from carso.errors import RunError
from carso.storage.files import TEXT
from carso.storage.schema import Kept, Schema, read_json, read_json_if_there, within, write_json


class Pair(Schema):
    """Two numbers."""

    both: tuple[int, int]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write_json(Pair(both=(1, 2)), tmp_path / "pair.json")
    assert read_json(path, Pair, "repair it") == read_json_if_there(path, Pair, "repair it") == Pair(both=(1, 2))


class Triple(Kept, Schema):
    """Three numbers, in a file of their own name."""

    KEPT_AS, REMEDY = "triple.json", "count again"

    all: tuple[int, int, int]


def test_what_a_folder_keeps_is_read_by_folder_or_file(tmp_path: Path) -> None:
    assert Triple.read_if_there(tmp_path) is None
    path = (found := Triple(all=(1, 2, 3))).write(tmp_path)
    assert path == tmp_path / "triple.json"
    assert Triple.read(path) == Triple.read(tmp_path) == Triple.read_if_there(tmp_path) == found
    path.write_text("{}")
    for read in (Triple.read, Triple.read_if_there):
        with pytest.raises(RunError, match=r"triple\.json: all: Field required; count again$"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"both": [1, "2"]}', "both[1]: Input should be a valid integer, not '2'"),
        ('{"both": [1, []]}', "both[1]: Input should be a valid integer"),
        ("{}", "both: Field required"),
        ("3", "top level: Input should be an object, not 3"),
        ("{", "is not JSON (EOF while parsing an object at line 1 column 1)"),
        (" " * (TEXT + 1), f"is longer than {TEXT:,} characters, which no such file is"),
    ],
)
def test_damage_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "pair.json"
    path.write_text(content)
    for read in (read_json, read_json_if_there):
        with pytest.raises(RunError) as found:
            read(path, Pair, "repair it")
        assert str(found.value) == f"{path}: {said}; repair it"


def test_a_file_that_may_be_missing(tmp_path: Path) -> None:
    assert read_json_if_there(tmp_path / "none.json", Pair, "write it") is None
    with pytest.raises(RunError, match=r"none\.json: cannot be read: No such file or directory; write it"):
        read_json(tmp_path / "none.json", Pair, "write it")


def test_a_file_is_given_itself_or_its_folder_by_path_or_name(tmp_path: Path) -> None:
    file = tmp_path / "pair.json"
    assert {within(given, "pair.json") for given in (tmp_path, str(tmp_path), file, str(file))} == {file}
