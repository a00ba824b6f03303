"""The shape in which leaderboards ask: models by name, and (clean, robust) of any of them, as RobustBench has it.

    list_models(dataset, threat_model) -> names     load_model(name) -> module     benchmark(module) -> (clean, robust)

    clean, robust    shares in [0, 1] of the first n test images: right when clean; broken by no attack of an audit

Source: F. Croce et al., "RobustBench: a standardized adversarial robustness benchmark", NeurIPS Datasets and Benchmarks
2021.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from carso.audit.audit import audit
from carso.audit.effort import Effort
from carso.audit.ensemble import CHUNK
from carso.audit.loading import PARTS, attacks_of, load_target, origin_of
from carso.audit.results import Audit
from carso.data import Dataset, check_source, is_name, is_same, load, name_of
from carso.data.published import published_in
from carso.defence import CARSO
from carso.errors import CarsoError, ModelError, first_line
from carso.progress import note
from carso.storage.folder import CLASSIFIER, shipped
from carso.types import Norm, radius

RADII: dict[tuple[str, Norm], float] = {
    ("mnist", "Linf"): 0.3,
    ("cifar10", "Linf"): 8 / 255,
    ("cifar10", "L2"): 0.5,
    ("cifar100", "Linf"): 8 / 255,
    ("fashion-mnist", "Linf"): 0.1,
}
"""The radius of a data set's leaderboard, on pixels in [0, 1]."""


class Score(tuple[float, float]):
    """(clean, robust), shares in [0, 1].

    Attributes:
        audit: what they are read off: n, intervals, every attack, what was attacked, the checks raised.
    """

    audit: Audit

    def __new__(cls, audit: Audit) -> Score:
        """The score at the audit's last budget."""
        found = audit.budgets[-1]
        score = super().__new__(cls, (rate.correct / rate.total for rate in (found.clean, found.worst_case)))
        score.audit = audit
        return score

    def __getnewargs__(self) -> tuple[Audit]:
        """What copies and pickles are made of."""
        return (self.audit,)


def list_models(dataset: str | None = None, threat_model: Norm | None = None) -> list[str]:
    """The names of the shipped models, whole defences and, as NAME/classifier, what they are without their purifier.

    Args:
        dataset: only those for these images.
        threat_model: only those trained against attacks in this norm.

    Raises:
        DataError: if there is no such dataset.
        CarsoError: if there is no such norm.
    """
    if dataset is not None:
        check_source(dataset)
    if threat_model is not None and threat_model not in get_args(Norm):
        raise CarsoError(f"a threat model is one of {', '.join(get_args(Norm))}, not {threat_model!r}")
    parts = [name + part for name in shipped(CLASSIFIER) for part in ("", f"/{PARTS[0]}") if part or name in shipped()]
    return [name for name in parts if _suits(name, dataset, threat_model)]


def load_model(name: str | Path, dataset: str | None = None, threat_model: Norm | None = None) -> nn.Module:
    """A trained model, in eval mode on the CPU: images (B, C, H, W) in [0, 1] to one score per class.

    Args:
        name: one of `list_models()`, or a folder of weights, with "/classifier" behind it for its classifier alone; a
            `Path` is always a folder.
        dataset: what it must be for; None not to ask.
        threat_model: the norm of attacks that it must itself have been trained against; likewise.

    Raises:
        CarsoError: if it is for something else, or there is no such model, dataset or norm.
    """
    name = name if isinstance(name, str) else os.path.join(os.curdir, name)
    model = load_target(name)
    if not _suits(name, dataset, threat_model):
        wanted = " ".join(str(part) for part in (dataset, threat_model) if part)
        others = ", ".join(list_models(dataset, threat_model)) or "none ships"
        raise CarsoError(f"{name} was not made for {wanted}; those that were: {others}")
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} is a {type(model).__name__}, not an nn.Module")
    return model


def benchmark(
    model: nn.Module,
    n_examples: int | None = None,
    dataset: str | Dataset = "mnist",
    threat_model: Norm = "Linf",
    *,
    eps: float | str | None = None,
    batch_size: int = CHUNK,
    device: torch.device | str | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    deterministic: bool = False,
    effort: Effort = "quick",
    model_name: str | None = None,
    out: str | Path | None = None,
) -> Score:
    """Accuracy on clean test images and under the worst of all attacks on the whole model, by an audit of it.

    Of a `carso.CARSO` the whole defence is attacked: gradients are those of its surrogate, averaged over candidates
    with fresh latents, an attack that knows the latents and attacks without gradients are tried beside them, and an
    image counts as broken if most of ten fresh votes on it are wrong. Of any other module, the module as it is.

    Args:
        model: images (B, C, H, W) in [0, 1] to scores (B, classes).
        n_examples: how many test images, from the first; None for all.
        dataset: a name or a folder as for `carso.data.load`, or labelled images.
        threat_model: norm of the ball.
        eps: its radius, on pixels in [0, 1], also as "8/255"; by default that of the data set's leaderboard (`RADII`).
        batch_size: images at a time.
        device: where the model is moved, and attacked; by default where it is.
        data_dir: where a published set may lie, in its own folder, beside the usual places.
        seed: of all chance.
        deterministic: attack `model.fixed(seed)`, whose latents the attacker knows; the score is of that model, and
            its audit says so.
        effort: of the audit.
        model_name: what the audit calls it.
        out: folder for the audit, which goes on from there when it was stopped.

    Returns:
        (clean, robust) in [0, 1], with the audit as its attribute `audit`.

    Raises:
        CarsoError: as `carso.audit.audit` does, or if eps is no number, there is no usual radius for these images, or
            no such device.
        ModelError: also if it cannot be made deterministic.
    """
    source = dataset if isinstance(dataset, Dataset) else name_of(dataset)
    test = source if isinstance(source, Dataset) else load(published_in(data_dir, source), "test")
    known = source if isinstance(source, str) and is_name(source) else name_of(test.name)
    reach = _usual(known, threat_model) if eps is None else _number(eps)
    subject = _fixed(model, seed) if deterministic else model
    found = audit(
        subject if device is None else _moved(subject, device),
        test,
        effort=effort,
        eps=(reach,),
        norm=threat_model,
        n=len(test) if n_examples is None else n_examples,
        seed=seed,
        chunk=batch_size,
        name=model_name,
        out=out,
    )
    return Score(found)


def _suits(name: str, dataset: str | None, norm: Norm | None) -> bool:
    data = origin_of(name).data
    of_these = dataset is None or (data is not None and is_same(dataset, data))
    return of_these and (norm is None or norm in {attack.norm for attack in attacks_of(name)})


def _number(eps: float | str) -> float:
    try:
        return radius(eps) if isinstance(eps, str) else eps
    except ValueError as error:
        raise CarsoError(f"eps: {error}") from error


def _moved(model: nn.Module, device: torch.device | str) -> nn.Module:
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:  # what torch raises for a device that is not there, or none
        raise CarsoError(f"the model cannot be moved to the device {str(device)!r}: {first_line(error)}") from error


def _usual(dataset: str, norm: Norm) -> float:
    if (dataset, norm) not in RADII:
        known = ", ".join(f"{name} {of}" for name, of in RADII)
        raise CarsoError(f"{dataset} {norm} has no usual radius; pass eps (known: {known})")
    return RADII[dataset, norm]


def _fixed(model: nn.Module, seed: int) -> CARSO:
    if not isinstance(model, CARSO):
        raise ModelError(f"deterministic=True fixes the latents of a carso.CARSO; a {type(model).__name__} has none")
    note(f"the latents are fixed by seed {seed}: the score is of that draw, and no score of the random defence")
    return model.fixed(seed)
