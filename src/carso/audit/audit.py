"""An audit: the strongest accuracy bound that we can find for a defence, and whether to believe it.

    for each budget: measure, attack round by round, pass fresh verdicts on each image's worst case; then doubt it all

The headline of a budget is the worst case per image over all attacks. With a folder, the state is kept after each
round; the same call goes on from it and ends as an unbroken run would.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

import carso
from carso.audit import checks, keeping
from carso.audit.detecting import detecting, turned
from carso.audit.effort import SIZES, Effort, Settings, settings_of
from carso.audit.ensemble import CHUNK, Ensemble, Subject
from carso.audit.neighbours import Neighbours, most_of, spacing
from carso.audit.results import Audit, BudgetResult
from carso.audit.state import State
from carso.audit.target import Target, target_of
from carso.audit.transfer import transfers
from carso.audit.verdict import VOTES, Judge
from carso.data import Dataset
from carso.data.labelled import first, matched
from carso.defence import CARSO
from carso.detection import Confidence
from carso.errors import CarsoError, NothingRightError
from carso.evaluation.environment import environment
from carso.evaluation.evaluate import chunk_of
from carso.evaluation.models import weights_of
from carso.evaluation.radii import check_radii
from carso.evaluation.seeding import seeded
from carso.nn import evaluating
from carso.processes.group import by_first
from carso.progress import Bar, progress, shown
from carso.storage.files import check_writable
from carso.storage.folder import AUDIT
from carso.types import Budget, Classifier, Images, Norm

TUNING, ATTACKS = 1, 4
"""Shares of the time, roughly."""


def audit(
    subject: Any,
    dataset: Dataset,
    *,
    effort: Effort = "standard",
    eps: Sequence[float] = (0.15, 0.3),
    norm: Norm = "Linf",
    n: int | None = None,
    seed: int = 0,
    votes: int = VOTES,
    eot: int | None = None,
    transfer: Mapping[str, Classifier] | None = None,
    name: str | None = None,
    chunk: int | None = None,
    out: str | Path | None = None,
    reject_at: float | None = None,
) -> Audit:
    """Attack a defence as a whole, and say what is left and whether to believe it.

    Args:
        subject: a CARSO defence, any module or callable from images (B, C, H, W) in [0, 1] to scores (B, classes), or
            either with an attribute `surrogate`, which is then what gradients are taken of; see `carso.audit.target`.
        dataset: labelled images; those beyond the first n only serve one of the attacks to begin at.
        effort: how hard to try; see `carso.audit.effort`.
        eps: radii, in (0, 1] for Linf, up to the box's diagonal for L2 and L1.
        norm: of all budgets.
        n: how many images, from the first; by default the effort's.
        seed: of all chance.
        votes: k, the fresh verdicts by which an image of a random target is judged.
        eot: candidates per gradient against a random target; by default the tuning chooses. 1 stands for an
            attack that does not average over randomness.
        transfer: other classifiers, by name, whose adversarial images are tried.
        name: what the report calls the target.
        chunk: images attacked and judged at a time, which bounds the memory; by default 500 are attacked, and all of
            them are judged clean, or fewer at a time where they are large. Another chunk is another draw of all chance.
        out: folder for the state and `audit.json`.
        reject_at: the rate of false alarms at which a calibrated defence, or a `carso.detection.Confidence`, turns
            images away. What is turned away counts as right: attackers must fool the defence and be believed.

    Returns:
        What was found; also written to `out`.

    Raises:
        CarsoError: for an eps, n or votes that makes no sense.
        DataError: if the images have no labels, are fewer than n, or of other classes than the target knows.
        ModelError: if the target or a transfer breaks the contract.
        NothingRightError: if the target is right on no image.
        RunError: if `out` holds another audit, or cannot be written.
    """
    budgets = _budgets(eps, norm, dataset)
    _check_counts(n=n, votes=votes, eot=eot, chunk=chunk)
    out = None if out is None else Path(out)
    if out is not None:
        check_writable(out / AUDIT)
    if effort not in SIZES:
        raise CarsoError(f"an audit's effort is one of {', '.join(SIZES)}, not {effort!r}")
    settings = Settings(effort, votes, eot, seed, chunk or _bounded(dataset.shape), reject_at)
    with evaluating(subject):
        tried = _tried(subject, dataset.in_turns(), n, name, transfer or {}, settings)
        clean = by_first(partial(_clean, tried, settings))
        by_name = tried.judge.target.weights is None or tried.judge.target.shown is None
        identity, before = (_identity(tried, transfer or {}, settings, named) for named in (by_name, True))
        found: list[BudgetResult] = []
        with progress(f"audit of {tried.judge.target.name}", (TUNING + ATTACKS) * len(budgets)) as bar:
            for budget in budgets:
                state = by_first(partial(_state, tried, budget, clean, out, identity, before))
                ensemble = Ensemble(tried, settings, state, (out, identity) if out else None)
                found.append(_attacked(ensemble, reject_at, bar))
    return _conclude(tried, found, dataset.name, settings, out)


def needed(shape: Sequence[int], effort: Effort, n: int | None = None) -> int:
    """How many images (C, H, W) an audit looks at, at most: those that it attacks, and those at which it begins."""
    return max(n or SIZES[effort].n, most_of(math.prod(shape)))


def _target(subject: Any, images: Images, name: str | None, seed: int, reject_at: float | None) -> Target:
    if reject_at is None:
        return target_of(subject, images, name, seed)
    if not isinstance(subject, CARSO | Confidence):
        raise CarsoError(f"a {type(subject).__name__} turns nothing away; wrap it in carso.detection.Confidence")
    seen = subject.classifier if isinstance(subject, Confidence) else subject
    return detecting(target_of(seen, images, name, seed), subject, reject_at)


def _tried(
    subject: Any,
    dataset: Dataset,
    n: int | None,
    name: str | None,
    transfer: Mapping[str, Classifier],
    settings: Settings,
) -> Subject:
    """The subject and the transfers, tried on the images, whose classes are numbered as the target's."""
    images, _ = first(dataset, n, settings.sizes.n)
    target = _target(subject, images, name, settings.seed, settings.reject_at)
    numbered = matched(dataset, target.classes, target.names)
    others = transfers(target, dataset, numbered, transfer)
    among = numbered[:: spacing(len(numbered), math.prod(numbered.shape))]
    neighbours = Neighbours(among.images, among.required_labels)
    labels = numbered.required_labels[: len(images)]
    places = torch.arange(len(images)) if numbered.places is None else numbered.places[: len(images)]
    return Subject(Judge(target, settings.votes), images, labels, neighbours, others, places)


def _attacked(ensemble: Ensemble, reject_at: float | None, bar: Bar) -> BudgetResult:
    """What the attacks of one budget leave."""
    bar.step = TUNING
    ensemble.tune()
    bar.advance(TUNING)
    bar.step = ATTACKS
    result = ensemble.run()
    if reject_at is not None:
        worst, seed = ensemble.state.worst, ensemble.seed
        asked = ensemble.judge.target, ensemble.images, worst, ensemble.labels, reject_at, seed
        result.turned_away = by_first(partial(turned, *asked))
    bar.advance(ATTACKS)
    return result


def _conclude(subject: Subject, found: list[BudgetResult], dataset: str, settings: Settings, out: Path | None) -> Audit:
    judge, target = subject.judge, subject.judge.target
    evidence = checks.Evidence(found, target.random, averaged=settings.eot != 1, repeatable=target.repeatable)
    result = Audit(
        target=target.name,
        n=len(subject.images),
        seed=settings.seed,
        budgets=found,
        checks=checks.make(evidence),
        dataset=dataset,
        effort=settings.effort,
        votes=judge.k,
        random=target.random,
        environment=environment(),
        weights=target.weights,
    )
    if out is not None:
        by_first(partial(result.write, out))
    return result


def _budgets(eps: Sequence[float], norm: Norm, dataset: Dataset) -> list[Budget]:
    if norm not in get_args(Norm):
        raise CarsoError(f"an audit's norm is one of {', '.join(get_args(Norm))}, not {norm!r}")
    if isinstance(eps, str | Real):
        raise CarsoError(f"an audit's eps are several radii, as (0.15, 0.3), not {eps!r}")
    if not eps:
        raise CarsoError("an audit needs at least one eps")
    check_radii(eps, norm, dataset.shape)
    return [Budget(norm, radius) for radius in sorted(set(eps))]


def _bounded(shape: Sequence[int]) -> int | None:
    """How many images (C, H, W) are attacked and judged at a time where they are large; None where they are not."""
    return few if (few := chunk_of(shape)) < CHUNK else None


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise CarsoError(f"{name} must be a whole number, at least 1, not {value!r}")


def _clean(subject: Subject, settings: Settings) -> Tensor:
    judge, images, chunk = subject.judge, subject.images, settings.chunk or len(subject.images)
    parts = list(zip(images.split(chunk), subject.labels.split(chunk), strict=True))
    with seeded(settings.seed, "clean"):
        right = torch.cat([judge.right(*part) for part in shown(parts, "clean images")])
    if judge.broken(right).all():
        raise NothingRightError(
            f"{judge.target.name} answers none of the {len(images)} clean images rightly; "
            "check the order of its classes and that normalisation is inside the model"
        )
    return right


def _state(subject: Subject, budget: Budget, clean: Tensor, out: Path | None, identity: str, before: str) -> State:
    judge, images = subject.judge, subject.images
    kept = keeping.read(out, budget, identity, images, judge.target.shown, before) if out else None
    state = kept or State.open(budget, judge.k, clean, images, judge.target.shown)
    state.labels, state.places = subject.labels, subject.places
    return state


def _identity(subject: Subject, transfer: Mapping[str, Classifier], settings: Settings, named: bool) -> str:
    """A digest of all that decides the figures, as far as it can be seen; if `named`, of the target's name as well."""
    target, near = subject.judge.target, subject.neighbours
    others = [(name, weights_of(model)) for name, model in sorted(transfer.items())]
    told = settings_of([settings.effort]), settings.votes, settings.eot, settings.seed
    decisive = (*([target.name] if named else ()), target.identity, *told, others, carso.__version__)
    digest = hashlib.sha256(repr(decisive if settings.chunk is None else (*decisive, settings.chunk)).encode())
    for tensor in (subject.images, subject.labels, near.images, near.labels):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
