"""The attacks of an audit, in order: what is cheap and tells much first, then the strongest on what still stands.

Every attack is a list of rounds. An attack on `all` images begins with every image that is answered rightly when clean;
one on the `survivors` with those that no attack before it has broken. Between rounds the images that fresh verdicts
call broken drop out, so restarts and targets cost only what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Generator, Tensor

from carso.attacks import annealed, apgd, deepfool, fgsm, noise, pgd, spsa, square
from carso.attacks.bpda import straight_through
from carso.attacks.eot import Candidates, Expectation, exponential, log_mean_probability
from carso.attacks.losses import DLR_CLASSES
from carso.audit.around import Around, distances
from carso.audit.autoattack import LEAST_CLASSES, MISSING, Version, autoattack, is_installed
from carso.audit.effort import SPARSE, Sizes
from carso.audit.neighbours import Neighbours
from carso.audit.target import Target
from carso.surrogate import SAMPLES
from carso.types import Budget, Classifier, Images, Labels

Kind: TypeAlias = Literal["noise", "one-step", "white-box", "transfer", "cross-check", "black-box"]
On: TypeAlias = Literal["all", "survivors"]
Craft: TypeAlias = Callable[[Images, Labels, Generator], Images]
Rounds: TypeAlias = tuple[Craft, ...]
Call: TypeAlias = Callable[..., Tensor]

GRADIENT, AUTOATTACK = 3, 5000
"""Calls of a target that a gradient takes as long as, and AutoAttack on an image: the queries of its Square."""


@dataclass(frozen=True)
class Tuning:
    """What the tuning chose: candidates per gradient, steps per run, and the loss."""

    eot: int = 1
    steps: int = 200
    loss: str = "cross_entropy"


@dataclass(frozen=True)
class Attempt:
    """One attack of the plan.

    Args:
        name: in reports.
        kind: what the attacker knows and does.
        on: which images it begins with.
        rounds: each crafts images for the rows it is given.
        least: rounds after which it may end, once the later half of them gains almost nothing; None to run them all.
        most: images at most, the first ones.
        known: the surrogate that the attack was made for, if its randomness is fixed.
        claims: the classes that the attack itself met on its images, if they are to be compared with fresh verdicts.
        options: what `audit.json` says of it.
    """

    name: str
    kind: Kind
    on: On
    rounds: Rounds
    least: int | None = None
    most: int | None = None
    known: Classifier | None = None
    claims: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How many calls of the target a round takes for an image, roughly."""
        if "version" in self.options:
            return AUTOATTACK
        if "queries" in self.options:
            return int(self.options["queries"])
        steps = int(self.options.get("steps", 1))
        if "directions" in self.options:
            return 2 * steps * int(self.options["directions"])
        return GRADIENT * steps * int(self.options.get("eot", 1))


def lately(gains: Sequence[float | int]) -> float | int:
    """What the later half of an attack's rounds gained: what doubling them was worth."""
    return sum(gains[len(gains) // 2 :])


def plan(
    target: Target,
    budget: Budget,
    sizes: Sizes,
    tuning: Tuning,
    transfer: Mapping[str, Classifier],
    neighbours: Neighbours,
    blind: bool,
    broken: bool = False,
    misled: bool = False,
) -> Iterator[Attempt]:
    """The attacks on a target.

    Args:
        target: what is attacked.
        budget: of every attack.
        sizes: of the attacks.
        tuning: of the strongest one.
        transfer: other models whose adversarial images are tried, by name.
        neighbours: images among which those of other classes are where one of the attacks begins.
        blind: whether there is no gradient worth following, so that those attacks are left out.
        broken: whether some gradients are not finite, so that more is asked of the attacks that need none.
        misled: whether gradients lead elsewhere, so that some are averaged around the image.
    """
    craft = partial(_craft, budget=budget)
    rounds: Rounds
    yield Attempt("noise", "noise", "all", (craft(noise, target.scores, draws=sizes.draws),))
    if target.candidates is not None and not blind:
        yield from _white_box(target, target.candidates, budget, sizes, tuning, neighbours)
        if misled:
            yield _around(target.candidates, budget, sizes, tuning, neighbours.images[0].numel())
    for name, model in transfer.items():
        rounds = tuple(craft(pgd, model, steps=sizes.plain, loss=loss) for loss in ("cross_entropy", "margin"))
        yield Attempt(f"transfer-{name}", "transfer", "all", rounds, options={"steps": sizes.plain})
    if target.purify is not None and target.classifier is not None:
        rounds = (craft(annealed, straight_through(target.purify, target.classifier), steps=sizes.plain),)
        yield Attempt("bpda", "cross-check", "all", rounds, options={"steps": sizes.plain})
    yield from _black_box(target, budget, sizes, None if blind or broken else sizes.spsa_images)
    if sizes.autoattack and target.candidates is not None:
        yield _autoattack(target, target.candidates, craft)


def _craft(attack: Call, model: Classifier, budget: Budget, **options: Any) -> Craft:
    def craft(images: Images, labels: Labels, generator: Generator) -> Images:
        return attack(model, images, labels, budget, generator=generator, **options)

    return craft


def _white_box(
    target: Target, candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning, neighbours: Neighbours
) -> Iterator[Attempt]:
    """From weak to strong: of equally harmful images, the state keeps the last one."""
    yield from _on_all(target, candidates, budget, sizes, tuning)
    yield from _on_survivors(target, candidates, budget, sizes, tuning, neighbours)
    yield from _more(target, candidates, budget, sizes, tuning)


def _on_all(target: Target, candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning) -> Iterator[Attempt]:
    """From one step to annealed PGD, whose few large changes in L2 and L1 are tried besides."""
    craft, attempt, plain, steps = partial(_craft, budget=budget), _attempts(target, tuning), sizes.plain, tuning.steps
    mean, steady = Expectation(candidates, tuning.eot), _steady(target, candidates, tuning)
    eot = {"eot": steady.samples} if target.random_surrogate else {}
    yield Attempt("fgsm", "one-step", "all", (craft(fgsm, steady),), options=eot)
    if target.random_surrogate and target.known is not None:
        yield _known_latents(target.known(1, SAMPLES), budget, plain)
    yield attempt("pgd", "all", craft(pgd, mean, steps=plain), steps=plain)
    yield attempt("apgd-ce", "all", craft(apgd, steady, steps=plain), steps=plain)
    least, most = sizes.restarts
    runs = [craft(annealed, mean, steps=steps, loss=tuning.loss)] * most
    yield attempt("pgd-annealed", "all", *runs, least=least, steps=steps, loss=tuning.loss)
    if budget.norm != "Linf":
        losses = tuning.loss, _other(tuning.loss)
        runs = [craft(annealed, mean, steps=steps, loss=loss, share=share) for share in SPARSE for loss in losses]
        yield attempt("pgd-annealed-sparse", "all", *runs, steps=steps, shares=SPARSE)


def _on_survivors(
    target: Target, candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning, neighbours: Neighbours
) -> Iterator[Attempt]:
    """Other starts, losses, ways of stepping, aggregates and classes to go to."""
    craft, attempt, steps = partial(_craft, budget=budget), _attempts(target, tuning), tuning.steps
    mean, other = Expectation(candidates, tuning.eot), _other(tuning.loss)
    least, most = sizes.neighbours
    if runs := [
        craft(_at_neighbour, mean, neighbours=neighbours, rank=rank, steps=steps, loss=tuning.loss)
        for rank in range(min(most, neighbours.ranks))
    ]:
        options = {"steps": steps, "loss": tuning.loss, "among": len(neighbours.images)}
        yield attempt("pgd-annealed-neighbours", "survivors", *runs, least=least, **options)
    dlr = craft(apgd, _steady(target, candidates, tuning), steps=sizes.plain, loss="dlr")
    yield _dlr(target, attempt, dlr, sizes.plain)
    if sizes.deepfool and target.exact is not None:
        run = craft(deepfool, target.exact(0, 1), steps=sizes.deepfool)
        yield Attempt("deepfool", "white-box", "survivors", (run,), options={"steps": sizes.deepfool})
    least, most = sizes.other
    runs = [craft(annealed, mean, steps=steps, loss=other)] * most
    yield attempt("pgd-annealed-other-loss", "survivors", *runs, least=least, steps=steps, loss=other)
    if target.random_surrogate:
        yield from _aggregates(candidates, budget, sizes, tuning)
    runs = [craft(at_rival, mean, rank=rank, steps=steps) for rank in range(sizes.rivals)]
    rivals = min(sizes.rivals, target.classes - 1)
    yield attempt("pgd-annealed-targeted", "survivors", *runs, steps=steps, rivals=rivals)


def _attempts(target: Target, tuning: Tuning) -> Callable[..., Attempt]:
    """Makes attacks that follow the mean gradient of as many candidates as the tuning chose."""
    eot: dict[str, Any] = {"eot": tuning.eot} if target.random_surrogate else {}

    def attempt(name: str, on: On, *rounds: Craft, least: int | None = None, **options: Any) -> Attempt:
        return Attempt(name, "white-box", on, rounds, least, options=eot | options)

    return attempt


def _other(loss: str) -> str:
    """The loss of the two that the tuning did not choose."""
    return "cross_entropy" if loss == "margin" else "margin"


def _dlr(target: Target, attempt: Callable[..., Attempt], run: Craft, steps: int) -> Attempt:
    """Auto-PGD on the DLR loss; without a third class an attack of no rounds, which says why."""
    if target.classes < DLR_CLASSES:
        return _left_out("apgd-dlr", "the DLR loss needs three classes")
    return attempt("apgd-dlr", "survivors", run, steps=steps)


def _autoattack(target: Target, candidates: Candidates, craft: Callable[..., Craft]) -> Attempt:
    """AutoAttack, or where it cannot run an attack of no rounds, which says why."""
    version: Version = "rand" if target.random_surrogate else "standard"
    least = LEAST_CLASSES[version]
    if target.classes < least:
        return _left_out("autoattack", f"its version for such targets needs {least} classes")
    if not is_installed():
        return _left_out("autoattack", MISSING)
    rounds = (craft(autoattack, Expectation(candidates), version=version),)
    return Attempt("autoattack", "white-box", "all", rounds, claims=True, options={"version": version})


def _left_out(name: str, why: str) -> Attempt:
    return Attempt(name, "white-box", "survivors", (), options={"left_out": why})


def _steady(target: Target, candidates: Candidates, tuning: Tuning) -> Expectation:
    """For attacks that trust one gradient or compare losses: at least `SAMPLES` candidates of a random target."""
    return Expectation(candidates, max(tuning.eot, SAMPLES) if target.random_surrogate else tuning.eot)


def _known_latents(known: Classifier, budget: Budget, steps: int) -> Attempt:
    """Against candidates of fixed randomness, judged against fresh ones."""
    rounds: Rounds = (_craft(annealed, known, budget, steps=steps),) * 2
    return Attempt("pgd-fixed-latents", "white-box", "all", rounds, known=known, options={"steps": steps})


def _more(target: Target, candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning) -> Iterator[Attempt]:
    """Annealed PGD with more candidates and with more steps, which also tells whether the attacks so far had enough."""
    craft, loss, most = partial(_craft, budget=budget, attack=annealed, loss=tuning.loss), tuning.loss, sizes.survivors

    def attempt(name: str, eot: int, steps: int, runs: int) -> Attempt:
        rounds: Rounds = (craft(model=Expectation(candidates, eot), steps=steps),) * runs
        options = {"eot": eot} if target.random_surrogate else {}
        return Attempt(
            name, "white-box", "survivors", rounds, most=most, options=options | {"steps": steps, "loss": loss}
        )

    if target.random_surrogate:
        yield attempt("pgd-annealed-more-candidates", 4 * tuning.eot, tuning.steps, 1)
    yield attempt("pgd-annealed-long", tuning.eot, *sizes.long)


def _around(candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning, pixels: int) -> Attempt:
    """Annealed PGD by gradients averaged over points near the image, at either distance in turn."""
    (samples, repeats), near = sizes.around, distances(budget, pixels)
    runs = [
        _craft(annealed, Expectation(Around(candidates, distance), samples), budget, steps=tuning.steps, loss=loss)
        for loss in ("margin", "cross_entropy")
        for distance in near
    ]
    options = {"eot": samples, "steps": tuning.steps}
    return Attempt("pgd-annealed-around", "white-box", "survivors", tuple(runs * repeats), len(near), options=options)


def _aggregates(candidates: Candidates, budget: Budget, sizes: Sizes, tuning: Tuning) -> Iterator[Attempt]:
    """Other aggregates of the candidates."""
    rounds: Rounds
    samples = max(SAMPLES, tuning.eot)
    for name, aggregate, loss in (
        ("log-mean-probability", log_mean_probability, "cross_entropy"),
        ("exponential", exponential, "margin"),
    ):
        model = Expectation(candidates, samples, aggregate)
        rounds = (_craft(annealed, model, budget=budget, steps=tuning.steps, loss=loss),) * sizes.aggregates
        yield Attempt(f"pgd-{name}", "white-box", "survivors", rounds, options={"eot": samples, "steps": tuning.steps})


def _black_box(target: Target, budget: Budget, sizes: Sizes, most: int | None) -> Iterator[Attempt]:
    craft = partial(_craft, budget=budget)

    def attempt(name: str, attack: Craft, most: int | None, **options: Any) -> Attempt:
        return Attempt(name, "black-box", "survivors", (attack,), most=most, options=options)

    queries, votes = sizes.queries, sizes.votes_queries
    yield attempt("square", craft(square, target.scores, queries=queries), None, queries=queries)
    if target.votes is not None and votes:
        yield attempt("square-votes", craft(square, target.votes, queries=votes), most, queries=votes)
    size: dict[str, Any] = dict(zip(("steps", "directions"), sizes.spsa, strict=True))
    delta = min(0.05, budget.eps / 4)
    yield attempt("spsa", craft(spsa, target.scores, delta=delta, **size), most, delta=delta, **size)


def at_rival(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    rank: int,
    steps: int,
    generator: Generator | None = None,
) -> Images:
    """Annealed PGD towards one wrong class of each image: the best-scored one at rank 0, the next at rank 1."""
    with torch.no_grad():
        scores = model(images).scatter(1, labels[:, None], -torch.inf)
    rivals = scores.argsort(1, descending=True)[:, rank % (scores.shape[1] - 1)]
    return annealed(model, images, rivals, budget, steps=steps, targeted=True, loss="margin", generator=generator)


def _at_neighbour(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    neighbours: Neighbours,
    rank: int,
    steps: int,
    loss: str,
    generator: Generator | None = None,
) -> Images:
    """Annealed PGD from a near image of another class, which it takes into the ball."""
    start = neighbours.nearest(images, labels, rank)
    return annealed(model, images, labels, budget, steps=steps, loss=loss, start=start, generator=generator)
