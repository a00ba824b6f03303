"""Export: a defence, or its classifier alone, as one ONNX file for serving.

    votes_i = sum_k onehot(argmax N(D(z_k, c_i)))        z_1..z_K drawn once from a stated seed, inside the file

The file answers as `defence.votes` does with a generator of that seed; it is believed only after onnxruntime has given
the same answers on images.

Source: thesis, section 3.2.4; the format is that of the Open Neural Network Exchange.
"""

from __future__ import annotations

import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.defence import CARSO
from carso.errors import ModelError
from carso.files import write_aside
from carso.recall import classify, recall
from carso.types import Images

NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 0.01
"""By how much logits, or shares of the vote, may differ between torch and onnxruntime: sums are rounded in another
order, and a candidate between two classes may change sides."""


class Election(nn.Module):
    """The whole defence with its latents: images (B, C, H, W) to votes (B, classes), all K of them.

    Memory grows with the batch: K candidates of each image are decoded at once.
    """

    def __init__(self, defence: CARSO, seed: int) -> None:
        super().__init__()
        self.defence = defence
        self.register_buffer("latents", defence.latents(generator=torch.Generator().manual_seed(seed)))

    def forward(self, images: Tensor) -> Tensor:
        """Votes (B, classes), integers that sum to K."""
        _, representations = self.defence.representation(images)
        codes = self.defence.purifier.compress(representations)
        logits = classify(self.defence.classifier, recall(self.defence.purifier, self.get_buffer("latents"), codes))
        return F.one_hot(logits.argmax(2), self.defence.classes).sum(1)


def export(
    defence: CARSO, path: Path, trial: Images, *, seed: int = 0, name: str = "carso", classifier_only: bool = False
) -> Path:
    """Write the ONNX file and prove it.

    Args:
        defence: what to export, on the CPU.
        path: of the file, written only when it has been proven.
        trial: images (B, C, H, W) on which torch and onnxruntime must agree.
        seed: of the latents inside the file.
        name: of the defence, kept in the file with seed, samples and classes.
        classifier_only: export N alone, images to logits.

    Raises:
        ModelError: if the extra `export` is missing, the defence cannot be traced, or the answers differ.
    """
    _check_installed()
    model = defence.classifier if classifier_only else Election(defence, seed)
    output = "logits" if classifier_only else "votes"
    facts = {"name": name, "answers": output, "classes": defence.classes}
    facts |= {} if classifier_only else {"seed": seed, "samples": defence.samples}

    def write(draft: Path) -> None:
        _trace(model.eval(), trial[:2], draft, output)
        _describe(draft, facts)
        _prove(model, draft, trial, output)

    write_aside(path, write)
    return path


def _check_installed() -> None:
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise ModelError(f"export needs {', '.join(missing)}: pip install 'carso[export]'")


def _trace(model: nn.Module, images: Images, path: Path, output: str) -> None:
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (images,),
                path,
                input_names=["images"],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever the user's module raises
        raise ModelError(f"the classifier cannot be exported to ONNX: {error}") from error
    finally:
        chatter.setLevel(level)


def _describe(path: Path, facts: dict[str, object]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, path)


def _prove(model: nn.Module, path: Path, images: Images, output: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for some in images.split(8):
        with torch.no_grad():
            expected = model(some)
        found = torch.from_numpy(session.run([output], {"images": some.numpy()})[0])
        scale = expected.sum(1, keepdim=True) if output == "votes" else 1
        close = ((found - expected).abs() <= TOLERANCE * scale).all()
        if not close or not torch.equal(found.argmax(1), expected.argmax(1)):
            raise ModelError(f"the exported file answers otherwise than the defence; {path.name} was not kept")
