"""A folded defence: its plain layers as one chain of affine maps, which attacks can afford to differentiate.

    r = [taps of N(x)],    c = R(r),    h_1 = W_c c + b + W_z z,    x_z = D_2..n(h_1),    l_z = N(x_z)

    W_z, W_c    the columns of D's first weight that meet z and c: c's product serves all latents

Standardisation and batch norm are folded into the weights, which get no gradient, and large matrix products run in
bfloat16 where that is faster. In float32 the logits are those of the defence to rounding. It is the attacker's tool and
the trainer's; a verdict on an image is always the defence's own.

Source: the chain is that of `carso.defence`; the folding that of `carso.fast.folding`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from carso.fast.convolutions import first_unshuffled
from carso.fast.folding import Folded, Stage, chain, fold, hooked_among
from carso.fast.mish import Mish
from carso.fast.network import convolves
from carso.fast.parts import Defence, Purifier
from carso.fast.products import Affine, product_dtype, reduced
from carso.nn.contrast import Contrast
from carso.nn.maps import Maps
from carso.nn.modes import evaluating
from carso.nn.querying import input_dtype
from carso.types import INPUT, OUTPUT, CandidateLogits, Codes, Images, Logits

Step = tuple[Affine, nn.Module | None]

CONVOLVED = 16
"""Images at a time of a defence with convolutions, whose gradients take a hundred times the memory of the images."""


class FoldedDefence:
    """A classifier and its purifier, folded; the weights are those of the moment it is made.

    Args:
        classifier: steps of N up to its last affine map.
        tail: what N applies to its last affine map.
        taps: places in N, counted over the image, its contrast if N has one, and the outputs of all its steps and then
            of its tail, that make r.
        maps: convolutions of R, in the dtype of the large products.
        encoder: the other steps of R.
        latents: W_z (hidden, latent).
        codes: the first map of D, of c alone, and its non-linearity.
        decoder: the other steps of D.
        contrast: with which N begins, if it does.
    """

    def __init__(
        self,
        classifier: list[Step],
        tail: nn.Sequential,
        taps: list[int],
        maps: nn.Module,
        encoder: list[Step],
        latents: Tensor,
        codes: Step,
        decoder: list[Step],
        contrast: Contrast | None = None,
    ) -> None:
        self.contrast = contrast
        self.classifier, self.tail, self.taps, self.maps = classifier, tail, taps, maps
        self.encoder, self.latents, self.first, self.decoder = encoder, latents, codes, decoder

    def __call__(self, images: Images, latents: Tensor) -> CandidateLogits:
        """Logits (B, K, classes) of candidates, differentiable in the images.

        Args:
            images: (B, C, H, W) in [0, 1].
            latents: z, shared by the images (K, latent) or each image's own (B, K, latent).
        """
        affine, activation = self.first
        hidden = affine(self.codes(images)).unsqueeze(1) + F.linear(latents, self.latents)
        samples = hidden.shape[1]
        rows = _run(self.decoder, _activated(activation, hidden.flatten(0, 1)))
        return self._outputs(rows)[-1].view(len(images), samples, -1)

    def codes(self, images: Images) -> Codes:
        """c (B, code), differentiable in the images."""
        outputs = self._outputs(images.flatten(1))
        representations = torch.cat([outputs[tap] for tap in self.taps], dim=1)
        return _run(self.encoder, self.maps(representations))

    def _outputs(self, rows: Tensor) -> list[Tensor]:
        outputs = [rows]
        if self.contrast is not None:
            rows = self.contrast.spread(rows)
            outputs.append(rows)
        for affine, activation in self.classifier:
            rows = _activated(activation, affine(rows))
            outputs.append(rows)
        for layer in self.tail:
            rows = layer(rows)
            outputs.append(rows)
        return outputs


class FastDefence:
    """A defence as whoever differentiates it wants it: folded, or its products in bfloat16, or as it is.

    Args:
        defence: the defence, whose verdicts stay its own.
        folded: its chain, if it has one, or another cheaper form.
        batch: images at a time that each thread of a CPU computes that form fastest, if it says so.

    Attributes:
        batch: images at a time that each thread of a CPU computes fastest; None for all.
    """

    def __init__(
        self, defence: Defence, folded: Callable[[Tensor, Tensor], Tensor] | None, batch: int | None = None
    ) -> None:
        self.defence, self.folded = defence, folded
        self._unfolded = reduced(defence.logits) if _is_float32(defence) else defence.logits
        convolved = convolves(defence.classifier) or convolves(defence.purifier)
        self.batch = CONVOLVED if convolved and not folded else batch

    def __call__(self, images: Images) -> Logits:
        """The defence's own answer, without gradient."""
        assert callable(self.defence)
        scores: Tensor = self.defence(images)
        return scores

    def logits(self, images: Images, *, latents: Tensor) -> CandidateLogits:
        """Logits (B, K, classes) of candidates, differentiable in the images; arguments as for `FoldedDefence`."""
        return self._unfolded(images, latents=latents) if self.folded is None else self.folded(images, latents)

    def surrogate(self, images: Images, samples: int = 1, *, generator: Generator | None = None) -> Logits:
        """Log-probabilities (B, classes) averaged over K candidates of fresh latents."""
        return self.logits(images, latents=self.defence.latents(samples, generator)).log_softmax(2).mean(1)


def _is_float32(defence: Defence) -> bool:
    return all(input_dtype(part) in (None, torch.float32) for part in (defence.classifier, defence.purifier))


def fold_defence(
    classifier: nn.Module, purifier: Purifier, layers: Sequence[str], dtype: torch.dtype | None = None
) -> FoldedDefence | None:
    """The folded defence; None where its classifier is no chain of known layers, or a layer is folded away or hooked.

    Nor is there one where a layer of the representation runs twice.

    Args:
        classifier: N; taken in eval mode.
        purifier: likewise.
        layers: whose activations make r, in order.
        dtype: of the large products; by default bfloat16 where the processor multiplies it faster.
    """
    with torch.no_grad(), evaluating(classifier), evaluating(purifier):
        folded = fold(classifier)
        encoder, decoder = chain(purifier.representation_encoder), chain(purifier.decoder)
        if folded is None or encoder is None or decoder is None or hooked_among(purifier.modules()):
            return None
        taps = _taps(classifier, folded, layers)
        if taps is None:
            return None
        dtype = product_dtype(folded.stages[0].weight.device) if dtype is None else dtype
        first, *rest = decoder
        split = purifier.latent
        return FoldedDefence(
            _steps(folded.stages, dtype),
            folded.tail,
            taps,
            _Frozen(purifier.maps, dtype).eval() if isinstance(purifier.maps, Maps) else nn.Identity(),
            _steps(encoder, dtype),
            first.weight[:, :split].clone(),
            (Affine(first.weight[:, split:].contiguous(), first.bias.clone(), dtype), first.activation),
            _steps(rest, dtype),
            folded.contrast,
        )


def _taps(classifier: nn.Module, folded: Folded, layers: Sequence[str]) -> list[int] | None:
    """Where each layer's output appears among those of the folded chain; None if one does not appear just once."""
    named = dict(classifier.named_modules())
    linears = [m for m in named.values() if isinstance(m, nn.Linear)]
    shown: list[nn.Module | None] = [
        None,
        *([] if folded.contrast is None else [folded.contrast]),
        *((s.activation or linear) for s, linear in zip(folded.stages, linears, strict=False)),
        *folded.tail,
    ]
    ends = {name: place for name, place in ((INPUT, 0), (OUTPUT, len(shown) - 1)) if name not in named}
    places = [ends[layer] if layer in ends else _index(shown, named[layer]) for layer in layers]
    return None if None in places or len(linears) != len(folded.stages) else [p for p in places if p is not None]


def _index(modules: Sequence[nn.Module | None], module: nn.Module | None) -> int | None:
    places = [i for i, each in enumerate(modules) if each is module]
    return places[0] if len(places) == 1 else None


class _Frozen(nn.Module):
    """Convolutions in a dtype of one's choice, between float32 and float32."""

    def __init__(self, maps: Maps, dtype: torch.dtype) -> None:
        super().__init__()
        frozen = copy.deepcopy(maps).requires_grad_(False)
        frozen.layers = nn.ModuleList(map(first_unshuffled, frozen.layers))
        self.maps, self.dtype = frozen.to(dtype), dtype

    def forward(self, rows: Tensor) -> Tensor:
        features: Tensor = self.maps(rows.to(self.dtype))
        return features.float()


def _steps(stages: Sequence[Stage], dtype: torch.dtype) -> list[Step]:
    return [(Affine(stage.weight.clone(), stage.bias.clone(), dtype), _fast(stage.activation)) for stage in stages]


def _fast(activation: nn.Module | None) -> nn.Module | None:
    return Mish() if isinstance(activation, nn.Mish) else activation


def _run(steps: Sequence[Step], rows: Tensor) -> Tensor:
    for affine, activation in steps:
        rows = _activated(activation, affine(rows))
    return rows


def _activated(activation: nn.Module | None, rows: Tensor) -> Tensor:
    return rows if activation is None else activation(rows)
