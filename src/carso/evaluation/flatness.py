"""Whether an attack finds a gradient to follow: where there is none, what it leaves says nothing of the model.

    grad_x CE(f(x), y) = 0    in float32, of more than half of the images

Whatever rounds, counts votes or saturates has such a gradient. An audit attacks without one as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor

from carso.attacks.gradient import input_gradient
from carso.attacks.losses import cross_entropy
from carso.errors import ModelError, NoGradientError
from carso.evaluation.models import Defence, Model, behind, believing, device_of, exposed
from carso.evaluation.queries import CheckedClassifier
from carso.evaluation.results import Target
from carso.nn.modes import evaluating
from carso.types import Classifier, Images, Labels


def flat(column: Model, aims: Collection[Target], images: Images, labels: Labels) -> bool:
    """Whether the gradient of what attacks with some of these aims see of a column is zero on most images.

    Args:
        column: of a table.
        aims: of the attacks on it.
        images: (B, C, H, W) in [0, 1].
        labels: their classes (B,).
    """
    apart = list(aims) if behind(column) is not believing(column) else list(aims)[:1]
    given = images.to(device_of(column)), labels.to(device_of(column))
    with evaluating(column):
        seen = (exposed(column, aim) for aim in apart)
        return any(_flat(model, *given) for model in seen if not isinstance(model, Defence))


def _flat(model: Classifier, images: Images, labels: Labels) -> bool:
    try:
        gradient: Tensor = input_gradient(CheckedClassifier(model), images, labels, cross_entropy)
    except ModelError:  # of which the attacks will tell
        return False
    return bool(2 * (gradient == 0).flatten(1).all(1).sum() > len(images))


@contextmanager
def told() -> Iterator[None]:
    """Say of what has no gradient that an audit attacks it nevertheless."""
    try:
        yield
    except NoGradientError as error:
        raise NoGradientError("`carso audit` attacks it without one") from error
