"""Storing a defence for others, restoring one of somebody else's, and the way to the hub and back.

    classifier.safetensors, purifier.safetensors, ...   as `carso.storage.weights` has them
    audit.json, results.json                            what was measured on them, where it was
    README.md                                           the model card, and by what to tell whether it was edited
    SHA256SUMS                                          of all of these but the card, as `sha256sum --check` reads it

Whatever is read is safetensors or JSON, and is what the checksums say; nothing that could run code is touched.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from carso import data
from carso.audit import read_audit
from carso.defence import CARSO
from carso.errors import CarsoError, ModelError, RunError, WeightsError, first_line
from carso.evaluation.results import FILE as RESULTS
from carso.evaluation.results import read_results
from carso.hub.card import card
from carso.storage import weights
from carso.storage.files import ASIDE, copy, move, read_text, write_text

SUMS, CARD = "SHA256SUMS", "README.md"
WEIGHTS = (weights.CLASSIFIER, weights.PURIFIER, weights.UNDEFENDED)
STORED = (*WEIGHTS, weights.AUDIT, RESULTS)
FILES = (*STORED, CARD, SUMS)
DOWNLOAD = ("revision", "cache_dir", "force_download", "local_files_only", "token")
WRITTEN = "\n<!-- as carso wrote it: "
"""Behind a card, before the digest of it."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def store(defence: CARSO, folder: str | Path, run: str | Path | None = None, name: str | None = None) -> Path:
    """Write weights, card and checksums into a folder.

    Args:
        defence: to be stored.
        folder: made if missing.
        run: a folder, or the name of a shipped defence, of these very weights: its recipe, its undefended classifier
            and its `audit.json` and `results.json` are taken along, and the card tells them.
        name: on the card; by default the folder's.

    Raises:
        RunError: if the folder holds anything of these names that is not of a shared defence, as what was measured on
            it since, or a card that somebody edited, if what the run measured are other weights or another vote, or if
            something cannot be read or written.
        WeightsError: if what is stored could not be read again, as weights of NaN. What was in the folder still is.
    """
    folder = Path(folder)
    _check_free(folder)
    source = None if run is None else weights.find(run)
    if source is not None:
        _check_same(defence, source)
    with _put_in_its_place(folder) as draft:
        _write(defence, draft, source, name or folder.resolve().name)
    return folder


@contextmanager
def _put_in_its_place(folder: Path) -> Iterator[Path]:
    """A draft of a folder's files, which take the place of those there once all are written."""
    draft = folder / f".{secrets.token_hex(4)}{ASIDE}"
    try:
        draft.mkdir(parents=True)
        yield draft
        for file in FILES:
            if (draft / file).exists():
                move(draft / file, folder / file)
            else:
                (folder / file).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}") from error
    except (RunError, WeightsError) as error:
        raise type(error)(str(error).replace(str(draft), str(folder))) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(defence: CARSO, folder: Path, source: Path | None, name: str) -> None:
    """Write everything into an empty folder; `source` is that of the run."""
    origin = {} if source is None else _told(weights.about(source / weights.PURIFIER, "purifier"))
    own = source is None or _is_trained(source / weights.CLASSIFIER)
    weights.save_classifier(defence.classifier, folder / weights.CLASSIFIER, origin | {"trained": own})
    weights.save_purifier(defence, folder / weights.PURIFIER, origin)
    for file in (weights.UNDEFENDED, weights.AUDIT, RESULTS):
        if source is not None and (source / file).exists():
            copy(source / file, folder / file)
    write_text(folder / CARD, _signed(_card(folder, name)))
    write_text(folder / SUMS, "".join(f"{_sum(folder / file)}  {file}\n" for file in _held(folder)))


def restore(source: str | Path, classifier: nn.Module | None = None, **options: Any) -> CARSO:
    """A defence that `store` wrote, from a folder or a repository of the hub.

    Args:
        source: the folder, or the repository, as "user/name"; a `Path` is always a folder.
        classifier: N, where the defence is one of a classifier of the user's own.
        options: of the hub: `revision`, `token`, `cache_dir`, `local_files_only` and `force_download`.

    Raises:
        CarsoError: if there is no such option, or what is read is a folder, which has none.
        ModelError: if huggingface_hub is needed and missing.
        WeightsError: if a file is none of ours, a pickle, or not what its checksum says.
        RunError: if there is no such folder, the hub cannot be reached, or has no such repository.
    """
    local = Path(source).is_dir()
    _check_options(options, () if local else DOWNLOAD, "a folder" if local else "the hub")
    if local:
        return _restored(Path(source), classifier)
    _check_of_the_hub(source)
    shared = _mixin()
    with _reaching(f"{source}: neither a folder nor to be had from the hub"):
        found: CARSO = shared.from_pretrained(str(source), classifier=classifier, **options).defence
        return found


def _check_options(options: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    if unknown := [name for name in options if name not in known]:
        raise CarsoError(f"{what} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}")


def _check_of_the_hub(source: str | Path) -> None:
    """Hold a source that is no folder to be none by its kind, nor the name of what ships."""
    if isinstance(source, Path):
        raise RunError(f"no folder {source}; a repository of the hub is a string, 'user/name'")
    if source in (*weights.DEFAULTS, *weights.shipped()):
        raise RunError(f"{source} ships with carso, and is no repository: carso.load({source!r}) has it")


def push(defence: CARSO, repository: str, run: str | Path | None = None, **options: Any) -> str:
    """Store a defence and upload it to the hub.

    Args:
        defence: to be shared.
        repository: "user/name"; made if missing.
        run: as for `store`.
        options: of the hub, such as `private`, `token`, `branch` and `commit_message`.

    Returns:
        The address of the commit.

    Raises:
        ModelError: if huggingface_hub is missing.
        RunError: if the hub cannot be reached or refuses it.
    """
    shared = _mixin()(defence, partial(store, defence, run=run, name=repository))
    with _reaching(f"{repository} cannot be pushed"):
        return str(shared.push_to_hub(repository, **options))


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    """Make one line of whatever the hub's client and its transport raise."""
    try:
        yield
    except CarsoError:
        raise
    except Exception as error:
        raise RunError(f"{what}: {first_line(error)}") from error


def _mixin() -> Any:
    """A defence as huggingface_hub handles it; made when it is needed, for the core does without that package."""
    if find_spec("huggingface_hub") is None:
        raise ModelError("the hub needs huggingface_hub: pip install 'carso[hub]'")
    from huggingface_hub import ModelHubMixin, snapshot_download

    class Shared(ModelHubMixin):
        def __init__(self, defence: CARSO, write: Callable[[Path], object] | None) -> None:
            self.defence, self.write = defence, write

        def _save_pretrained(self, save_directory: Path) -> None:
            assert self.write is not None
            self.write(save_directory)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, classifier: nn.Module | None = None, **options: Any) -> Shared:
            kept = {name: options[name] for name in DOWNLOAD if name in options}
            return cls(_restored(Path(snapshot_download(model_id, **kept)), classifier), None)

    return Shared


def _restored(folder: Path, classifier: nn.Module | None) -> CARSO:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise WeightsError(f"{folder} holds {pickles[0]}, a pickle, which may run code; weights must be safetensors")
    _check_sums(folder)
    return weights.load(folder, classifier)


def _check_sums(folder: Path) -> None:
    """Hold every file of ours in the folder to the checksums there."""
    if not (folder / SUMS).is_file():
        raise WeightsError(f"{folder} has no {SUMS}, as save_pretrained writes it; carso.load reads a folder of a run")
    try:
        sums = _sums(folder)
        held = {file: _sum(folder / file) for file in _held(folder)}
    except RunError as error:
        raise WeightsError(str(error)) from error
    for file in {**held, **sums}:
        if file not in STORED:
            raise WeightsError(f"{folder / SUMS} names {file!r}, which is no file of a defence")
        if file not in sums:
            raise WeightsError(f"{folder / file} is not part of what was shared; move it away")
        if held.get(file) != sums[file]:
            raise WeightsError(f"{folder / file} is not the file that {SUMS} tells of; fetch both anew")


def _check_free(folder: Path) -> None:
    """Hold a folder to be no run's, nor anybody's whose files would be lost."""
    sums = _sums(folder) if (folder / SUMS).exists() else {}
    shared = bool(sums) and {*sums} <= {*STORED}
    lost = [weights.RECIPE] if shared else [weights.RECIPE, CARD, *STORED, SUMS]
    if held := [file for file in lost if (folder / file).exists()]:
        raise RunError(f"{folder} holds {held[0]}, which is not of a shared defence; choose another folder")
    keep = "move it away to keep it, or choose another folder"
    if new := [file for file in _held(folder) if _sum(folder / file) != sums.get(file)]:
        raise RunError(f"{folder / new[0]} is not what {SUMS} tells of, as after a run or a save broken off; {keep}")
    if (folder / CARD).exists() and not _is_as_written(read_text(folder / CARD)):
        raise RunError(f"{folder / CARD} is not as carso wrote it; {keep}")


def _sums(folder: Path) -> dict[str, str]:
    """What the checksums tell, by file."""
    return {file: told for told, file in re.findall(r"^([0-9a-f]{64})  (.+)$", read_text(folder / SUMS), re.M)}


def _signed(text: str) -> str:
    return f"{text}{WRITTEN}{hashlib.sha256(text.encode()).hexdigest()[:16]} -->\n"


def _is_as_written(text: str) -> bool:
    return text == _signed(text.rpartition(WRITTEN)[0])


def _held(folder: Path) -> list[str]:
    return [file for file in STORED if (folder / file).exists()]


def _sum(path: Path) -> str:
    """Its SHA-256.

    Raises:
        RunError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_same(defence: CARSO, source: Path) -> None:
    """Hold a run's figures to the weights that they are told of, and to how these voted."""
    own = weights.about(source / weights.PURIFIER, "purifier")["classifier"]
    measured = [read_audit(source).weights] if (source / weights.AUDIT).exists() else []
    measured += [read_results(source).weights.get("carso")] if (source / RESULTS).exists() else []
    others = {told for told in measured if told is not None} - {weights.digest(defence)}
    if others or own != weights.digest(defence.classifier):
        raise RunError(f"{source} tells of other weights than these: name the run that the defence was loaded from")
    if measured and (changed := _changed(defence, weights.settings(source))):
        raise RunError(f"{source} was measured with {changed}; vote as it did, or leave the run and its figures out")


def _changed(defence: CARSO, measured: Mapping[str, Any]) -> str:
    """The settings in which a defence is not what was measured, and what they were and are."""
    now = weights.settings_of(defence)
    return ", ".join(f"{name} {then}, not {now[name]}" for name, then in measured.items() if now[name] != then)


def _card(folder: Path, name: str) -> str:
    audit = read_audit(folder) if (folder / weights.AUDIT).exists() else None
    results = read_results(folder) if (folder / RESULTS).exists() else None
    known = weights.origin(folder).data
    return card(name, known if known and data.is_name(known) else None, audit, results)


def _is_trained(path: Path) -> bool:
    """Whether the weights of a classifier come of the run, and not with the module."""
    return path.exists() and bool(weights.about(path, "classifier").get("trained", False))


def _told(origin: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in origin.items() if key in ("recipe", "seed", "stage")}
