"""Export: a defence, or its classifier alone, as one ONNX file for serving.

    votes_i = sum_k onehot(argmax N(D(z_k, c_i)))        z_1..z_K drawn once from a stated seed, inside the file
    winners_i = argmax votes_i                           a tie goes to the lowest class

The file answers as `defence.votes` and `defence.predict` do with a generator of that seed and no early stop; it is
believed only after onnxruntime has given the same answers on images. Inside, an ONNX `Scan` takes the images one after
the other, so that its memory is that of one image's K candidates whatever the batch; of no image it knows nothing.

Source: thesis, section 3.2.4; the format is that of the Open Neural Network Exchange.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

import carso
from carso.defence import CARSO
from carso.errors import DataError, ModelError, first_line, shortened
from carso.nn import evaluating, query
from carso.nn.querying import blamed
from carso.recall import classify, recall
from carso.storage.files import check_writable, write_aside
from carso.storage.weights import digest
from carso.types import Images, check_images
from carso.vote import mode

NEEDED = ("onnx", "onnxruntime", "onnxscript")
SHARES, LOGITS = 0.01, 0.001
"""By how much shares of the vote may differ between torch and onnxruntime, and logits, as a part of the largest: sums
are rounded in another order, and a candidate between two classes may change sides."""


class Vote(nn.Module):
    """All K votes of one image: its code (code,) to votes (classes,)."""

    def __init__(self, defence: CARSO, seed: int) -> None:
        super().__init__()
        self.defence = defence
        self.register_buffer("latents", defence.latents(generator=torch.Generator().manual_seed(seed)))

    def forward(self, code: Tensor) -> Tensor:
        """Integers that sum to K."""
        candidates = recall(self.defence.purifier, self.get_buffer("latents"), code.unsqueeze(0))
        answers = classify(self.defence.classifier, candidates).argmax(2)
        return F.one_hot(answers, self.defence.classes).sum((0, 1))


class Exported(nn.Module):
    """The whole defence with its latents: images (B, C, H, W) to votes (B, classes) of all K, and winners (B,)."""

    def __init__(self, defence: CARSO, seed: int) -> None:
        super().__init__()
        self.defence = defence
        code = torch.rand(defence.purifier.code, device="cpu", dtype=torch.float32)
        self.vote = torch.export.export(Vote(defence, seed), (code,)).module(check_guards=False)
        self.training = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Votes (B, classes), integers that sum to K, and the winners (B,)."""
        _, representations = self.defence.representation(images)
        codes = self.defence.purifier.compress(representations)
        done = torch.zeros((), dtype=torch.long, device=codes.device)
        _, votes = scan(lambda done, code: (done + 1, self.vote(code)), done, codes)
        return votes, mode(votes)


def export(
    defence: CARSO | nn.Module,
    path: Path,
    trial: Images,
    *,
    seed: int = 0,
    name: str = "carso",
    classifier_only: bool = False,
) -> Path:
    """Write the ONNX file and prove it; of weights in half or double precision, as of a copy in single precision.

    The file takes batches of one image or more.

    Args:
        defence: what to export, on the CPU; a module that is no defence is a classifier alone.
        path: of the file, written only when it has been proven.
        trial: images (B, C, H, W), at least one, on which torch and onnxruntime must agree.
        seed: of the latents inside the file; of a `fixed` defence its own.
        name: of the defence, kept in the file with seed, samples, a digest of the weights, classes, their names, shape
            and version.
        classifier_only: export N alone, images to logits; so it is of a module that is no defence.

    Raises:
        ModelError: if the extra `export` is missing, what is given is no module, does not answer by the mode or cannot
            be traced, or the file does not run, or answers otherwise.
        DataError: if the trial images are not such as the defence takes, or there are none.
        RunError: if the file cannot be written.
    """
    _check_installed()
    if not isinstance(defence, nn.Module):
        raise ModelError(f"export takes a module, not a {type(defence).__name__}")
    if isinstance(defence, CARSO) and defence.fixed_by is not None:
        seed = defence.fixed_by
    whole = isinstance(defence, CARSO) and not classifier_only
    if whole and defence.aggregation != "mode":
        raise ModelError(f"export knows the aggregation 'mode', and this defence answers by {defence.aggregation!r}")
    check_images(trial, defence.purifier.shape if isinstance(defence, CARSO) else trial.shape[1:])
    if not len(trial):
        raise DataError("export needs at least one image to prove the file on")
    check_writable(path, ".onnx")
    defence = _single(defence)
    outputs = ["votes", "winners"] if whole else ["logits"]
    facts = {"name": name, "answers": outputs, **_about(defence, trial), "carso": carso.__version__}
    facts |= _decided(defence, seed) if isinstance(defence, CARSO) and whole else {}

    def write(draft: Path) -> None:
        with evaluating(defence):
            traced = _traced(defence, seed if whole else None, torch.cat([trial[:1]] * 2), outputs)
        with _saying("the exported file cannot be completed", draft):
            traced.save(draft, external_data=False)
            _describe(draft, facts)
        _prove(defence, draft, trial, seed if whole else None)

    write_aside(path, write)
    return path


def is_export_of(defence: CARSO, path: Path, seed: int) -> bool:
    """Whether a file says of itself that `export` made it of this very defence, with latents of that seed."""
    try:
        told = facts_of(session_of(path))
    except ModelError:
        return False
    return all(told.get(name) == value for name, value in _decided(defence, seed).items())


def _decided(defence: CARSO, seed: int) -> dict[str, Any]:
    """What decides the votes of a file of the whole defence."""
    return {"weights": digest(defence), "samples": defence.samples, "seed": seed}


def _single(module: nn.Module) -> nn.Module:
    """A copy in single precision, or the module itself if it is: few ONNX operators know any other."""
    numbers = (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())
    return module if all(t.dtype == torch.float32 for t in numbers) else copy.deepcopy(module).float()


def _about(defence: CARSO | nn.Module, trial: Images) -> dict[str, Any]:
    """What the file says of classes and images; a classifier is asked, and says nothing of data."""
    if isinstance(defence, CARSO):
        found = {"classes": defence.classes, "shape": defence.purifier.shape}
        found |= {} if defence.data is None else {"data": Path(defence.data).name}
    else:
        found = {"classes": _classes(defence, trial), "shape": list(trial.shape[1:])}
    names = [str(name) for name in getattr(defence, "class_names", None) or ()]
    return found | ({"names": names} if len(names) == found["classes"] else {})


def _classes(classifier: nn.Module, trial: Images) -> int:
    """How many a classifier knows, by its answer to one of the images."""
    what = f"the classifier cannot run on images of shape {tuple(trial.shape[1:])}"
    with blamed(what, "if it was made for others, name them: --data on the command line"):
        logits = _logits(classifier, trial[:1])
    if logits.ndim != 2:
        raise ModelError(f"the classifier must return (batch, classes); 1 image gave {tuple(logits.shape)}")
    return logits.shape[1]


def _logits(classifier: nn.Module, images: Images) -> Tensor:
    with torch.no_grad(), evaluating(classifier):
        return query(classifier, images)


def _check_installed() -> None:
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise ModelError(f"export needs {', '.join(missing)}: pip install 'carso[export]'")


def _traced(defence: CARSO | nn.Module, seed: int | None, images: Images, outputs: list[str]) -> Any:
    """The ONNX program; whatever is raised here is of the classifier, for nothing is written yet."""
    try:
        with _quietly(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                Exported(defence, seed) if isinstance(defence, CARSO) and seed is not None else _classifier(defence),
                (images,),
                input_names=["images"],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever the user's module raises
        reason = first_line(error.__cause__ or error)
        raise ModelError(f"the classifier cannot be exported to ONNX: {reason}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep from the screen what torch logs of tries that fail before one succeeds."""
    chatter = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in chatter]
    for logger in chatter:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(chatter, levels, strict=True):
            logger.setLevel(level)


def _describe(path: Path, facts: dict[str, object]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, path)


def _prove(defence: CARSO | nn.Module, path: Path, images: Images, seed: int | None) -> None:
    with _saying("the exported file does not run in onnxruntime", path):
        session = _opened(path)
    for some in images.split(8):
        with _saying("the exported file does not run in onnxruntime", path):
            found = [torch.from_numpy(answer) for answer in session.run(None, {"images": some.numpy()})]
        _check_alike(found, _expected(defence, some, seed))


def _check_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    """Hold the answers of the file to those of torch: logits alone, or votes and winners."""
    by_votes = len(expected) > 1
    same = found[1].equal(expected[1]) if by_votes else found[0].argmax(1).equal(expected[0].argmax(1))
    largest = (expected[0].sum(1) if by_votes else expected[0].abs()).max().item()
    apart = (found[0] - expected[0]).abs().max().item()
    if not (same and apart <= (SHARES if by_votes else LOGITS) * largest):
        which = f"votes differ by up to {apart} of {largest}"
        which = which if by_votes else f"logits differ by up to {apart:.3g}, the largest is {largest:.3g}"
        raise ModelError(f"the exported file answers otherwise than the defence, and was not kept: its {which}")


@contextmanager
def _saying(what: str, draft: Path) -> Iterator[None]:
    """Make one line, without the name of a draft, of what onnx and onnxruntime raise, but for a disk that is full."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # onnxruntime has a dozen kinds of its own
        raise ModelError(f"{what}: {_why(error, draft, 'it')}") from error


def _why(error: Exception, path: Path, called: str) -> str:
    """The first line of an error, in which a path is called as is said."""
    return shortened(first_line(error).replace(str(path), called), 200)


def _opened(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def session_of(path: Path) -> Any:
    """An ONNX file in onnxruntime, on the CPU; its threads sleep while they have nothing to do.

    Raises:
        ModelError: if onnxruntime is missing, or the file is, or is no ONNX model.
    """
    if find_spec("onnxruntime") is None:
        raise ModelError("an ONNX file needs onnxruntime: pip install onnxruntime")
    try:
        return _opened(path)
    except Exception as error:  # onnxruntime has a dozen kinds of its own
        why = _why(error, path, path.name) if path.exists() else "there is no such file"
        raise ModelError(f"{path}: cannot be run by onnxruntime: {why}; `carso export` writes it anew") from error


def facts_of(session: Any) -> dict[str, Any]:
    """What `export` wrote into the file of a session about itself; nothing, if it did not write it."""
    found = session.get_modelmeta().custom_metadata_map
    try:
        return {key: json.loads(value) for key, value in found.items()}
    except ValueError:
        return {}


def _classifier(defence: CARSO | nn.Module) -> nn.Module:
    return defence.classifier if isinstance(defence, CARSO) else defence


def _expected(defence: CARSO | nn.Module, images: Images, seed: int | None) -> list[Tensor]:
    if seed is None or not isinstance(defence, CARSO):
        return [_logits(_classifier(defence), images)]
    votes = defence.votes(images, torch.Generator().manual_seed(seed))
    return [votes, mode(votes)]
