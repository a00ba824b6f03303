"""Which pictures of a folder belong to which class and split.

    FOLDER/[SPLIT/][CLASS/...]PICTURE

SPLIT is `train`, `val`, `valid`, `validation` or `test`, in any case; CLASS is the outermost folder, with whatever lies
below it. Without such folders of splits, and for a validation that has none beside `train`, pictures are held out by
their names (`carso.data.splits`). What could be read in two ways is refused with what was found; what is left out is
counted.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from carso.data.dataset import check_names
from carso.data.labelled import numbers
from carso.data.splits import Split, shared_out
from carso.errors import DataError, few

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

DEEPEST = 32
"""How many folders may lie in one another."""

Picture: TypeAlias = tuple[Path, str | None]
"""A picture and its class, if it has one."""

_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Tree:
    """A folder: the folders, the pictures and everything else in it."""

    path: Path
    folders: tuple[Tree, ...]
    pictures: tuple[Path, ...]
    others: tuple[Path, ...]

    @cached_property
    def all(self) -> list[Tree]:
        """This folder and those below it."""
        return [self, *(below for folder in self.folders for below in folder.all)]

    @property
    def below(self) -> list[Path]:
        """The pictures in it and below it, in the order of their paths."""
        return sorted((path for folder in self.all for path in folder.pictures), key=lambda path: path.parts)

    @cached_property
    def count(self) -> int:
        """The pictures in it and below it."""
        return sum(len(folder.pictures) for folder in self.all)

    @property
    def filled(self) -> list[Tree]:
        """The folders that hold pictures."""
        return [folder for folder in self.folders if folder.count]

    @property
    def labelled(self) -> bool:
        """Whether its pictures lie in folders of classes."""
        return bool(self.filled)

    def files(self) -> list[Picture]:
        """Its pictures, in the order of their classes and paths."""
        return [picture for pictures in self.by_class() for picture in pictures]

    def by_class(self) -> list[list[Picture]]:
        """Its pictures, those of each class in the order of their paths; without classes all together."""
        if not self.labelled:
            return [[(path, None) for path in self.pictures]]
        return [[(path, folder.path.name) for path in folder.below] for folder in self.filled]

    def share(self, split: Split, *, test: bool) -> list[Picture]:
        """Its pictures for a split, where it is not divided itself."""
        depth = len(self.path.parts) + self.labelled
        return shared_out(split, self.by_class(), lambda picture: "/".join(picture[0].parts[depth:]), test=test)


@dataclass(frozen=True)
class Layout:
    """A folder of pictures, understood.

    Attributes:
        tree: all that is in it.
        parts: the folders of the splits; none where it is not divided.
        classes: the names of the classes of all splits together, so that a label means the same in each.
    """

    tree: Tree
    parts: dict[Split, Tree]
    classes: tuple[str, ...]

    def pictures(self, split: Split) -> list[Picture]:
        """The pictures of a split.

        Raises:
            DataError: if it has none.
        """
        if not self.tree.count:
            raise DataError(f"{self.tree.path}: holds no pictures ({', '.join(SUFFIXES)})")
        if not (found := self._pictures(split)):
            raise DataError(f"{self.tree.path}: none of its pictures ({self.tree.count}) is for the split {split!r}")
        return found

    def _pictures(self, split: Split) -> list[Picture]:
        if not self.parts:
            return self.tree.share(split, test=True)
        if "train" in self.parts and "validation" not in self.parts and split != "test":
            return self.parts["train"].share(split, test=False)
        if split in self.parts:
            return self.parts[split].files()
        raise DataError(f"{self.tree.path}: has no subfolder {split!r}, only {_names(self.parts.values())}")

    def notes(self) -> list[str]:
        """What was decided and what was left out, in a line each."""
        others = [path for folder in self.tree.all for path in folder.others]
        empty = [folder.path for folder in self.tree.all if not folder.count]
        roots = list(self.parts.values()) or [self.tree]
        inner = [below.path for root in roots for folder in root.folders for below in folder.all[1:] if below.pictures]
        bare = [part for part in self.parts.values() if self.classes and part.count and not part.labelled]
        return [
            *self._divided(),
            *(f"{part.path.name} has no folders of classes, so its pictures have no labels" for part in bare),
            *self._listed("folders within those of classes, read as parts of them", inner),
            *self._listed("files that are no pictures by their names, left out", others),
            *self._listed("folders without pictures", empty),
            *_unread(self.tree, roots)[:3],
        ]

    def _divided(self) -> list[str]:
        if not self.parts and self.tree.count:
            shares = {split: len(self._pictures(split)) for split in ("train", "validation", "test")}
            counts = ", ".join(f"{count} for {split}" for split, count in shares.items())
            return [
                f"no folders train and test, so the {self.tree.count} pictures are shared out by their names: {counts}"
            ]
        if "train" in self.parts and "validation" not in self.parts:
            count = len(self._pictures("validation"))
            return [f"no folder validation, so {count} of the {self.parts['train'].count} in train are held out"]
        return []

    def _listed(self, what: str, paths: Sequence[Path]) -> list[str]:
        names = [str(path.relative_to(self.tree.path)) for path in paths]
        return [f"{what}: {len(paths)} ({few(names, 3)})"] if paths else []


def read_layout(folder: Path) -> Layout:
    """Find out how a folder is laid out.

    Raises:
        DataError: if it can be read in two ways, or its splits have different classes; says what was found.
    """
    tree = _tree(folder, {}, 0)
    parts = _parts(tree)
    roots = list(parts.values()) or [tree]
    for root in roots:
        _check_classes(root)
    classes = _ordered({name.path.name for root in roots for name in root.filled})
    check_names(classes)
    if len(classes) == 1:
        told = "; ".join([f"has a single class, {classes[0]}", *_unread(tree, roots)[:3]])
        raise DataError(
            f"{folder}: {told}; if that is the data set, pass its path, "
            "and if its pictures have no labels, take them out of that folder"
        )
    _check_alike([root for root in roots if root.labelled], classes)
    return Layout(tree, parts, tuple(classes))


def _unread(tree: Tree, roots: Iterable[Tree]) -> list[str]:
    """What is in each folder that would be a class, were its files pictures that are read; hidden ones do not count."""
    folders = [folder for root in roots for folder in root.folders if not folder.count]
    files = [[path for below in folder.all for path in below.others if path.name[0] != "."] for folder in folders]
    return [
        f"{folder.path.relative_to(tree.path)} holds files that are not read: {len(paths)} ({_kinds(paths)})"
        for folder, paths in zip(folders, files, strict=True)
        if paths
    ]


def _kinds(paths: Iterable[Path]) -> str:
    return ", ".join(sorted({path.suffix.lower() or path.name for path in paths})[:5])


def _ordered(names: set[str]) -> list[str]:
    """Classes by their names; by their numbers if they are called 0 to n - 1, as N then numbers them."""
    counted = list(numbers(len(names)))
    return counted if names == {*counted} else sorted(names)


def _tree(folder: Path, seen: dict[tuple[int, int], Path], depth: int) -> Tree:
    """What is below a folder; nothing may be reached twice, by a link, lest it belong to two splits."""
    if depth > DEEPEST:
        raise DataError(f"{folder}: lies more than {DEEPEST} folders deep; no pictures are looked for there")
    folders, pictures, others = [], [], []
    for path in _entries(folder):
        mode = _mode(path, seen)
        if path.name.startswith(".") or (not (is_folder := stat.S_ISDIR(mode)) and not _is_picture(path, mode)):
            others.append(path)
        elif is_folder:
            folders.append(_tree(path, seen, depth + 1))
        else:
            pictures.append(path)
    return Tree(folder, tuple(folders), tuple(pictures), tuple(others))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _mode(path: Path, seen: dict[tuple[int, int], Path]) -> int:
    """The kind of a file; 0 if it is a link to nothing."""
    try:
        found = path.stat()
    except OSError:
        return 0
    first = seen.setdefault((found.st_dev, found.st_ino), path)
    if first is not path and (stat.S_ISDIR(found.st_mode) or _is_picture(path, found.st_mode)):
        raise DataError(f"{path}: is {first} again, by a link; remove one, so that no picture belongs to two splits")
    return found.st_mode


def _is_picture(path: Path, mode: int) -> bool:
    return stat.S_ISREG(mode) and path.suffix.lower() in SUFFIXES


def _split(folder: Tree) -> Split | None:
    return _SPLITS.get(folder.path.name.lower())


def _parts(tree: Tree) -> dict[Split, Tree]:
    """The folders of splits; none if what lies in the folder are pictures or classes."""
    named = [folder for folder in tree.folders if _split(folder)]
    others = [folder for folder in tree.filled if not _split(folder)]
    if len(named) == 1 and others and not named[0].labelled:
        return {}
    if named and others:
        raise DataError(f"{tree.path}: holds {_names(others)} beside {_names(named)}; keep splits or classes in it")
    if named and tree.pictures:
        raise DataError(f"{tree.pictures[0]}: lies beside the folders {_names(named)}; move it into one of them")
    parts = {split: folder for folder in named if (split := _split(folder))}
    if len(parts) < len(named):
        raise DataError(f"{tree.path}: holds {_names(named)}, of which two mean the same split; keep one")
    return parts


def _check_classes(root: Tree) -> None:
    if root.labelled and root.pictures:
        raise DataError(f"{root.pictures[0]}: lies beside the folders of classes; move it into one of them")
    for folder in root.filled:
        if nested := [below for below in folder.all[1:] if _split(below)]:
            raise DataError(f"{folder.path}: holds folders of splits ({_names(nested)}) where classes are looked for")


def _check_alike(roots: Sequence[Tree], classes: Sequence[str]) -> None:
    for root in roots:
        lacking = [name for name in classes if name not in {folder.path.name for folder in root.folders}]
        if lacking:
            raise DataError(
                f"{root.path}: lacks the classes {few(lacking)}, which another split has; "
                "make them alike (an empty folder is a class without pictures)"
            )


def _names(folders: Iterable[Tree]) -> str:
    return ", ".join(folder.path.name for folder in folders)
