"""CARSO: Counter-Adversarial Recall of Synthetic Observations.

    r   = representation of x in the adversarially trained classifier N
    c   = R(r)                                   the code
    x_k = D(z_k, c),  z_k ~ N(0, I)              K recalled, purified candidates
    y   = mode over k of argmax N(x_k)           the vote, or another aggregation of N(x_1), ..., N(x_K)

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, get_args

import torch
from torch import Tensor, nn

from carso import vote
from carso.contract import check_classifier, check_kinds, check_purifier
from carso.detection import WITNESSES, Calibration, Detection, agreement, threshold_of
from carso.nn.modes import evaluating
from carso.nn.pretrained import Pretrained
from carso.nn.querying import query
from carso.purifier import Purifier
from carso.recall import at_a_time, classify, draw, poll, recall
from carso.representation import Representation
from carso.surrogate import SAMPLES, Surrogate, undifferentiable
from carso.types import CandidateLogits, Candidates, Codes, Counts, Images, Labels, Latents, Logits, check_images
from carso.vote import Aggregation, Stop, Tally

IMAGES_AT_A_TIME = 1024

BLOCK = 16
"""Normal numbers that torch draws together: only of a multiple of them are the first ones those of a longer draw."""

VOTING = ("samples", "aggregation", "stop", "error")
"""What decides how a defence votes, beside its parts."""

KNOWN: dict[str, tuple[str, ...]] = {"aggregation": get_args(Aggregation), "stop": get_args(Stop)}
"""What there is of either."""


class CARSO(Pretrained, nn.Module):
    """A classifier behind its purifier.

    Both run in eval mode and are left in the mode they are in. Images and latents, candidates and logits are float32,
    whatever dtype the two compute in. Another classifier or purifier may take the place of the first: it is checked
    as the first was, and the representation is read off it.

    Args:
        classifier: N, any module from images (B, C, H, W) in [0, 1] to logits (B, classes).
        purifier: a trained `Purifier` of N's representation.
        layers: whose activations make the representation, as for `Representation`; those the purifier was trained with.
        samples: K, the candidates per image.
        aggregation: how the candidates' answers become one: "mode", "mean-logit", "mean-probability", "exponential" or
            "peel", which masks gradients (see `carso.vote`).
        stop: when the mode, and no other, may stop before K: "never", "exact" (same answer) or "confident" (same but
            for `error`).
        error: bound on the probability, per image, that the confident stop picks another class than unlimited sampling.

    Raises:
        ModelError: if the classifier breaks the contract, or the purifier is none, was made for other neurons or
            images, or holds weights that are not finite.
        ValueError: if `samples`, `aggregation`, `stop` or `error` is none of these.

    Attributes:
        class_names: what the data set that it was trained on calls its classes, in their order; None if unknown.
        data: the data set that it was trained on, by its name or folder; None if unknown.
        calibration: the agreements of clean images, by which `detect` turns others away; None until `calibrate`.
        fixed_by: the seed of the latents where they are the same in every call (see `fixed`); None for fresh ones.
    """

    input_dtype = torch.float32
    """What it takes, in whatever dtype its modules compute."""

    def __init__(
        self,
        classifier: nn.Module,
        purifier: Purifier,
        layers: Sequence[str] | None = None,
        samples: int = 1500,
        *,
        aggregation: Aggregation = "mode",
        stop: Stop = "confident",
        error: float = 1e-4,
    ) -> None:
        super().__init__()
        self.training = False
        if not 0 < error < 1:
            raise ValueError(f"error must be between 0 and 1, not {error}")
        self.classifier = classifier
        self.purifier = purifier
        self.samples = samples
        self.aggregation: Aggregation = aggregation
        self.stop: Stop = stop
        self.error = error
        self.class_names: tuple[str, ...] | None = None
        self.data: str | None = None
        self.calibration: Calibration | None = None
        self.fixed_by: int | None = None
        self._join(classifier, purifier, layers)

    def forward(self, images: Images, generator: torch.Generator | None = None) -> Logits:
        """One score per class (B, classes): vote shares, or those of another aggregation. It has no gradient.

        Args:
            images: (B, C, H, W) in [0, 1].
            generator: source of the latents; `None` for torch's own. A seed gives one answer, whatever the batch.

        Raises:
            NoGradientError: when its gradient is taken, by whatever library; `differentiable()` has one.
        """
        return undifferentiable(self._scores(images, generator), images)

    def _scores(self, images: Images, generator: torch.Generator | None) -> Logits:
        if self.aggregation == "mode":
            return self.poll(images, generator=generator).shares
        check_images(images, self.purifier.shape)
        latents = self.latents(generator=generator)
        parts = images.split(max(1, at_a_time(self.purifier) // self.samples))
        with torch.no_grad():
            return torch.cat([self.aggregated(some, latents=latents) for some in parts])

    def predict(self, images: Images, generator: torch.Generator | None = None) -> Labels:
        """The elected class (B,) of each image: that of the highest score."""
        if self.aggregation == "mode":
            return self.poll(images, generator=generator).winners
        return self._scores(images, generator).argmax(1)

    def elect(self, images: Images, stop: Stop | None = None, seed: int | None = None) -> tuple[Labels, Tally]:
        """The classes (B,) that its own aggregation elects, and the vote behind them.

        Args:
            images: (B, C, H, W) in [0, 1].
            stop: of the vote where the mode decides; by default its own.
            seed: of the latents; None for fresh ones.

        Raises:
            ValueError: if there is no such stop.
        """

        def source() -> torch.Generator | None:
            return None if seed is None else torch.Generator().manual_seed(seed)

        by_mode = self.aggregation == "mode"
        tally = self.poll(images, stop=stop if by_mode else "never", generator=source())
        return tally.winners if by_mode else self.predict(images, source()), tally

    def differentiable(self, samples: int = SAMPLES) -> Surrogate:
        """The surrogate as a module, for attack libraries in place of the defence; K fresh candidates per gradient."""
        return Surrogate(self, samples)

    def fixed(self, seed: int = 0) -> CARSO:
        """The same defence, made deterministic: every call takes the latents of this seed, whatever its generator.

        It shares classifier and purifier with this one. Its figures hold for one draw of the latents, and flatter it
        where the attacker does not know them; therefore `fixed_by`, its repr and all results say what it is.
        """
        twin = CARSO(self.classifier, self.purifier, self.representation.layers, **self.voting)
        twin._take_after(self)
        twin.calibration, twin.fixed_by = self.calibration, seed
        return twin

    @property
    def voting(self) -> dict[str, Any]:
        """How it votes: `samples`, `aggregation`, `stop` and `error`, as the constructor takes them."""
        return {name: getattr(self, name) for name in VOTING}

    def _take_after(self, other: CARSO) -> None:
        """Be of another's classes, data and latents, where these are fixed."""
        self.class_names, self.data, self.fixed_by = other.class_names, other.data, other.fixed_by

    def extra_repr(self) -> str:
        """Which latents, if they are not fresh."""
        return "" if self.fixed_by is None else f"latents fixed by seed {self.fixed_by}"

    def votes(self, images: Images, generator: torch.Generator | None = None) -> Counts:
        """Votes per class (B, classes) of all K candidates, without an early stop; each row sums to K."""
        return self.poll(images, stop="never", generator=generator).counts

    def detect(
        self,
        images: Images,
        false_alarms: float = 0.01,
        classes: Labels | None = None,
        generator: torch.Generator | None = None,
    ) -> Detection:
        """The elected classes, and which images are believed: those on which N and the recalled candidates agree.

        Args:
            images: (B, C, H, W) in [0, 1].
            false_alarms: share of clean images that may be turned away, as promised by `carso.detection`.
            classes: those elected (B,), where a vote has been taken already.
            generator: source of the latents.

        Raises:
            ModelError: if the defence was never calibrated.
            CarsoError: if so low a rate cannot be promised, or it is too high.
        """
        threshold = threshold_of(self.calibration, false_alarms)
        known = self.predict(images, generator) if classes is None else _elected(classes, self.classes, images)
        found = self.agreement(images, known, generator)
        return Detection(known, found >= threshold, found, threshold)

    def calibrate(self, images: Images, generator: torch.Generator | None = None) -> Calibration:
        """Set the thresholds of `detect` by clean images (n, C, H, W) that neither N nor the purifier was trained on.

        N is surer of images that it was trained on: by them, more of the others are turned away than promised.

        Raises:
            CarsoError: if they are too few.
        """
        found = self.agreement(images, self.predict(images, generator), generator)
        self.calibration = Calibration.of(found.cpu())
        return self.calibration

    def agreement(self, images: Images, classes: Labels, generator: torch.Generator | None = None) -> Tensor:
        """a (B,): how far N on the images and N on recalled candidates agree on the classes (B,).

        Raises:
            ValueError: unless there is one of the classes for each image.
        """
        known = _elected(classes, self.classes, images)
        if not len(images):
            return images.new_zeros(0)
        latents = self.latents(WITNESSES, generator)
        few = max(1, at_a_time(self.purifier) // WITNESSES)
        found = []
        with torch.no_grad(), evaluating(self.classifier):
            for some, elected in zip(images.split(few), known.split(few), strict=True):
                recalled = self.surrogate(some, latents=latents)
                found.append(agreement(query(self.classifier, some), recalled, elected))
        return torch.cat(found)

    def poll(
        self,
        images: Images,
        samples: int | None = None,
        stop: Stop | None = None,
        generator: torch.Generator | None = None,
    ) -> Tally:
        """The vote with its circumstances: counts (B, classes) and samples used (B,).

        Traced by `torch.export`, it takes all samples: a graph cannot stop early.

        Raises:
            ValueError: if there is no such stop, or K is less than 1.
        """
        check_images(images, self.purifier.shape)
        latents = self.latents(samples, generator)
        stop = "never" if torch.compiler.is_compiling() else stop or self.stop
        _check_among("stop", stop)
        if not len(images):
            return Tally(latents.new_zeros(0, self.classes).long(), latents.new_zeros(0).long())
        with torch.no_grad(), evaluating(self.classifier), evaluating(self.purifier):
            tallies = [
                poll(self.classifier, self.purifier, latents, self.codes(some), stop, self.error)
                for some in images.split(IMAGES_AT_A_TIME)
            ]
        return Tally(torch.cat([t.counts for t in tallies]), torch.cat([t.samples for t in tallies]))

    def codes(self, images: Images) -> Codes:
        """c (B, code) of images (B, C, H, W), differentiable in them."""
        check_images(images, self.purifier.shape)
        if not len(images):
            return images.new_zeros(0, self.purifier.code, dtype=torch.float32)
        _, representations = self.representation(images.float())
        with evaluating(self.purifier):
            return self.purifier.compress(representations)

    def latents(self, samples: int | None = None, generator: torch.Generator | None = None) -> Latents:
        """Fresh z (K, latent) from N(0, I); of a `fixed` defence always the first K of the same ones.

        Raises:
            ValueError: if K is no whole number, or less than 1.
        """
        wanted = self.samples if samples is None else samples
        _check_samples(wanted)
        device = next(self.purifier.parameters()).device
        if self.fixed_by is None:
            return draw(wanted, self.purifier, generator, device)
        known, rows = torch.Generator().manual_seed(self.fixed_by), max(wanted, self.samples)
        return draw(rows + -rows % BLOCK, self.purifier, known, device)[:wanted]

    def recall(
        self,
        images: Images,
        samples: int = 1,
        *,
        latents: Latents | None = None,
        generator: torch.Generator | None = None,
    ) -> Candidates:
        """Purified candidates (B, K, C, H, W), differentiable in the images.

        Args:
            images: (B, C, H, W) in [0, 1].
            samples: K, with fresh latents each call.
            latents: z (K, latent) to use instead of fresh ones.
            generator: source of the fresh latents.

        Raises:
            ValueError: if K is no whole number or less than 1, or the latents are of another shape.
        """
        codes = self.codes(images)
        z = self.latents(samples, generator) if latents is None else _checked(latents, self.purifier.latent)
        with evaluating(self.purifier):
            return recall(self.purifier, z, codes)

    def logits(self, images: Images, samples: int = 1, **options: Any) -> CandidateLogits:
        """N's logits (B, K, classes) on recalled candidates, differentiable in the images; options as for `recall`."""
        candidates = self.recall(images, samples, **options)
        if not len(images):
            return candidates.new_zeros(*candidates.shape[:2], self.classes)
        with evaluating(self.classifier):
            return classify(self.classifier, candidates)

    def aggregated(self, images: Images, samples: int = 1, **options: Any) -> Logits:
        """Its own scores (B, classes) of K candidates, with their gradient; the shares of the mode have none."""
        return vote.AGGREGATES[self.aggregation](self.logits(images, samples, **options))

    def surrogate(self, images: Images, samples: int = 1, **options: Any) -> Logits:
        """What an attacker differentiates: log-probabilities (B, classes) averaged over K candidates.

        That is their mean logit up to a number per image, before any other aggregation, whichever the defence has.
        """
        return self.logits(images, samples, **options).log_softmax(2).mean(1)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the parts in agreement when one of them is replaced; thresholds were set for the old ones.

        Raises:
            ModelError: if the new one does not fit.
            ValueError: if there is no such aggregation or stop, or `samples` is less than 1.
        """
        if name == "samples":
            _check_samples(value)
        if name in KNOWN:
            _check_among(name, value)
        if name in ("classifier", "purifier") and "representation" in vars(self):
            parts: dict[str, Any] = {"classifier": self.classifier, "purifier": self.purifier, name: value}
            self._join(**parts, layers=self.representation.layers)
            self.calibration = None
        super().__setattr__(name, value)

    def _join(self, classifier: nn.Module, purifier: Purifier, layers: Sequence[str] | None) -> None:
        check_kinds(classifier, purifier)
        classes, representation = check_classifier(classifier, purifier.shape), Representation(classifier, layers)
        check_purifier(purifier, representation)
        self.classes, self.representation = classes, representation


def _check_samples(samples: int) -> None:
    if isinstance(samples, bool) or not isinstance(samples, int | Integral) or samples < 1:
        raise ValueError(f"samples must be a whole number, at least 1, not {samples}")


def _check_among(name: str, value: Any) -> None:
    if value not in KNOWN[name]:
        raise ValueError(f"{name} must be one of {', '.join(KNOWN[name])}, not {value!r}")


def _checked(latents: object, dimension: int) -> Latents:
    if not isinstance(latents, Tensor):
        raise ValueError(
            f"latents must be floats of shape (K, {dimension}), K at least 1, not a {type(latents).__name__}"
        )
    if not (latents.is_floating_point() and latents.ndim == 2 and len(latents) and latents.shape[1] == dimension):
        raise ValueError(f"latents must be floats of shape (K, {dimension}), K at least 1, not {tuple(latents.shape)}")
    return latents


def _elected(classes: Any, count: int, images: Images) -> Labels:
    """Whole numbers below `count`, one per image, as a tensor beside the images."""
    found = torch.as_tensor(classes, device=images.device)
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not whole or found.shape != (len(images),) or not ((found >= 0) & (found < count)).all():
        raise ValueError(f"classes must be one of 0 to {count - 1} for each of the {len(images)} images")
    return found.long()
