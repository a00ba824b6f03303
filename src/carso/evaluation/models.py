"""The models of a table, a column each: what answers, and what an attack sees of it.

A column is a bare classifier, or a defence: anything with the attributes of `Defence`, or with those by which
`carso.audit.target` knows one, `purify` and `classifier`, `surrogate`. Models that share a classifier are handed the
same attacked images.
"""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from carso.attacks.eot import calls, mean_log_probability
from carso.defence import CARSO, VOTING
from carso.detection import Confidence
from carso.errors import ModelError
from carso.evaluation.arrays import Numbers, Tables, check_alike
from carso.evaluation.queries import checked_query, name_of, scores_of
from carso.evaluation.results import Target
from carso.nn.fiwagr import paths
from carso.nn.modes import evaluating
from carso.storage.weights import digest
from carso.types import ByAttributes, Classifier, Images, Logits
from carso.vote import Stop, Tally


@runtime_checkable
class Defence(Protocol, metaclass=ByAttributes):
    """A classifier behind a purifier that votes; `carso.CARSO` is one."""

    classifier: nn.Module

    def poll(
        self,
        images: Tensor,
        samples: int | None = None,
        stop: Stop | None = None,
        generator: torch.Generator | None = None,
    ) -> Tally:
        """Votes and samples used per image."""

    def recall(self, images: Tensor, samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Purified candidates (B, K, C, H, W)."""

    def surrogate(self, images: Tensor, samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Differentiable log-probabilities (B, classes)."""


EXPOSURE = 2
"""What attacks see of a column that is not `plain`: raised with every change by which they may see something else."""

Model: TypeAlias = Classifier | Defence
Models: TypeAlias = Mapping[str, Model]


class Outcome(BaseModel):
    """What one column answered to one row's images.

    `predicted` (n,) is the class of each image. A column that votes also has `counts` (n, classes) and `samples` (n,);
    one that may turn images away, `accepted` (n,), 1 for each that it believes and 0 for the others.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    predicted: Numbers
    counts: Tables | None = None
    samples: Numbers | None = None
    accepted: Numbers | None = None

    @model_validator(mode="after")
    def _of_the_same_images(self) -> Outcome:
        parts = ("predicted", "counts", "samples", "accepted")
        check_alike(**{part: getattr(self, part) for part in parts})
        return self

    def shares(self) -> Tensor | None:
        """Fraction of the votes (n, classes) that each class got."""
        return None if self.counts is None or self.samples is None else self.counts / self.samples.unsqueeze(1)

    @classmethod
    def join(cls, parts: list[Outcome]) -> Outcome:
        """The outcomes of consecutive images as one."""

        def cat(field: str) -> Any:
            tensors = [getattr(part, field) for part in parts]
            return None if tensors[0] is None else torch.cat(tensors)

        return cls(**{field: cat(field) for field in cls.model_fields})


@dataclass(frozen=True)
class Followed:
    """A column whose `surrogate` (images -> logits, differentiable) attacks follow in place of its own gradient.

    To fool the surrogate is not to fool the column: no attack rests there.

    Args:
        column: it.
        samples: calls of the surrogate, whose log-probabilities are averaged.
    """

    varies: ClassVar[bool] = True
    column: Any
    samples: int = 1

    def __call__(self, images: Images) -> Logits:
        """Log-probabilities (B, classes) of images (B, C, H, W), differentiable in them."""
        return mean_log_probability(calls(self._once)(images, self.samples))

    def _once(self, images: Images) -> Logits:
        return scores_of(self.column.surrogate, images, f"{name_of(self.column)}.surrogate").float()


def behind(column: Model) -> Any:
    """The classifier behind a purifier; of a column without one itself, whatever it calls its parts."""
    known: Any = believing(column)
    purified = isinstance(known, Defence) or (hasattr(known, "purify") and hasattr(known, "classifier"))
    return known.classifier if purified else known


def exposed(column: Model, directed_at: Target) -> Model:
    """What an attack on this column gets to see: a defence's bare classifier, or the column as a whole."""
    known: Any = believing(column)
    if directed_at == "classifier" and (classifier := behind(column)) is not known:
        return classifier  # type: ignore[no-any-return]
    return Followed(known) if hasattr(known, "surrogate") and not isinstance(known, Defence) else known


def identity(seen: Model) -> int:
    """A number of what attacks get to see, for as long as it lives; of what is followed, that of its column."""
    return id(seen.column if isinstance(seen, Followed) else seen)


def plain(column: Model) -> bool:
    """Whether attacks on the classifier see what they always did: a `Defence`'s, or a column without one as it is."""
    known = believing(column)
    return isinstance(known, Defence) or exposed(column, "classifier") is known


def hidden(column: Model) -> bool:
    """Whether attacks on the classifier meet the column itself, of which nobody sees that it is a bare classifier.

    A module without a `surrogate` passes for one, a plain function does not.
    """
    seen = exposed(column, "classifier")
    return isinstance(seen, Followed) or (seen is believing(column) and not isinstance(seen, nn.Module))


def believing(column: Model) -> Model:
    """The classifier that a `Confidence` asks, which believes everything; any other column as it is."""
    found: Model = column.classifier if isinstance(column, Confidence) else column
    return found


def answer(
    column: Model,
    images: Tensor,
    generator: torch.Generator,
    samples: int | None = None,
    stop: Stop | None = None,
    reject_at: float | None = None,
) -> Outcome:
    """The column's answer to images (B, C, H, W).

    Args:
        column: whom to ask.
        images: in [0, 1].
        generator: of the latents.
        samples: K, where it overrules the defence's own.
        stop: of the vote, likewise.
        reject_at: the rate of false alarms at which a calibrated defence or `Confidence` turns images away.
    """
    found = _answer(column, images, generator, samples, stop)
    if reject_at is None or not isinstance(column, CARSO | Confidence):
        return found
    elected: dict[str, Any] = {"classes": found.predicted.long().to(images.device), "generator": generator}
    options = elected if isinstance(column, CARSO) else {}
    detection = checked_query(column.detect, images, false_alarms=reject_at, **options)
    return found.model_copy(update={"accepted": detection.accepted.cpu().int()})


def _answer(
    column: Model, images: Tensor, generator: torch.Generator, samples: int | None, stop: Stop | None
) -> Outcome:
    if isinstance(column, Defence) and getattr(column, "aggregation", "mode") == "mode":
        tally = checked_query(column.poll, images, samples=samples, stop=stop, generator=generator)
        return Outcome(
            predicted=tally.winners.cpu().int(), counts=tally.counts.cpu().int(), samples=tally.samples.cpu().int()
        )
    if samples is not None and isinstance(column, CARSO):
        column = copy.copy(column)
        column.samples = samples
    return Outcome(predicted=_scores(column, images, generator).argmax(1).cpu().int())


def _scores(column: Model, images: Tensor, generator: torch.Generator) -> Logits:
    """A column's scores (B, classes); an aggregation of a defence's, as `vote.peel`, may be infinite."""
    assert callable(column)
    options: dict[str, Any] = {"generator": generator} if isinstance(column, Defence) else {}
    with torch.no_grad(), evaluating(column):
        scores = scores_of(column, images, **options)
    if scores.isnan().any() or (scores.isinf().any() and not isinstance(column, Defence)):
        raise ModelError(f"{name_of(column)} returned NaN or infinity for scores; its accuracy would mean nothing")
    return scores


def class_count(column: Model, images: Tensor) -> int:
    """How many classes a column knows, by its answer to images (B, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(column, Defence):
        return int(checked_query(column.poll, images, samples=1, stop="never", generator=generator).counts.shape[1])
    return _scores(column, images, generator).shape[1]


def models_of(defence: Defence, undefended: nn.Module | None) -> dict[str, Model]:
    """The table's columns, left to right: an undefended classifier, if there is one, the defended one, the defence."""
    first: dict[str, Model] = {} if undefended is None else {"undefended": undefended}
    return {**first, "adversarially_trained": defence.classifier, "carso": defence}


def device_of(column: Model) -> torch.device:
    """Where the column's parameters live; the CPU for a plain function."""
    parameters = column.parameters() if isinstance(column, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def voting(column: Model) -> dict[str, Any]:
    """How a defence votes by itself, as far as it says: samples, aggregation, stop, error, seed of fixed latents."""
    names = (*VOTING, "fixed_by") if isinstance(column, Defence) else ()
    return {name: getattr(column, name) for name in names if getattr(column, name, None) is not None}


def weights_of(column: Model) -> str | None:
    """A digest of the column's weights alone; None for a plain function, which cannot be looked into."""
    column = believing(column)
    return digest(column) if isinstance(column, nn.Module) else None


def fingerprint(column: Model) -> str:
    """A hash of architecture, settings and weights; a plain function, which cannot be looked into, has never the same.

    Settings are those that a module names in its `extra_repr`, as torch's own modules do; buffers count whether they
    are saved or not.
    """
    column = believing(column)
    return _hashed(column, voting(column))


def exposure(column: Model) -> str:
    """A hash of what an attack on it meets: as `fingerprint`, but however it votes; how often, of fixed latents."""
    if isinstance(column, Followed):
        return f"surrogate of {exposure(column.column)}"
    fixed = getattr(column, "fixed_by", None) is not None
    return _hashed(column, voting(column).get("samples")) if fixed else _hashed(column)


def _hashed(column: Model, *settings: object) -> str:
    if not isinstance(column, nn.Module):
        return uuid.uuid4().hex
    layers = getattr(getattr(column, "representation", None), "layers", None)
    sha = hashlib.sha256(repr((column, layers, *settings, *paths(column))).encode())
    held = column.state_dict() | dict(column.named_buffers(remove_duplicate=False))
    for name, tensor in sorted(held.items()):
        bytes_ = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        sha.update(name.encode() + bytes_.numpy().tobytes())
    return sha.hexdigest()
