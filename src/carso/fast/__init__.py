"""The one door to speed: the same answers from a cheaper form of a model.

    faster(model, images)     a classifier or a whole defence in a form that answers alike, or the model itself
    pullback(model, images)   its logits at images + delta, and the gradient of any loss of theirs with respect to delta
    gradient_of(values, x)    a gradient by autograd, or the error that there is none
    alike(ours, theirs)       whether two answers differ by rounding alone
    voting(...)               the votes of many candidates at once
    reduced(model)            the model with its products in bfloat16, for attackers, never for a verdict
    Reduced(classifier)       the same of a classifier, which knows the exact one for where rounding would mislead

Whatever comes through the door has been compared with the model itself on a few images. Nobody outside looks behind it.
"""

from carso.fast.door import alike, faster, voting
from carso.fast.network import convolves
from carso.fast.products import Reduced, full_precision, low_precision, product_dtype, reduced
from carso.fast.pullback import Pullback, batch_of, gradient_of, portions, pullback

__all__ = [
    "Pullback",
    "Reduced",
    "alike",
    "batch_of",
    "convolves",
    "faster",
    "full_precision",
    "gradient_of",
    "low_precision",
    "portions",
    "product_dtype",
    "pullback",
    "reduced",
    "voting",
]
