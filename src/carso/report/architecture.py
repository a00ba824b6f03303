"""The architecture figures: what runs at training time and at inference time, with the sizes of an actual defence.

A network is drawn as a trapezium whose sides grow with the logarithm of its first and last layers; a vector is a pill.
After the figures of the thesis's appendix, drawn anew from the modules themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from carso.defence import CARSO

STYLE = (Path(__file__).parent / "templates" / "architecture.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Dimensions:
    """The sizes that the figures show.

    Args:
        image: (C, H, W).
        classifier: neurons of the image, of each tapped layer of N that is no image itself, in order.
        classes: of N.
        image_encoder: layer sizes of I, the input first.
        representation_encoder: of R.
        encoder: of q, up to its last hidden layer.
        latent: dimension of z.
        decoder: of D.
        samples: K.
        parameters: of N and of the purifier.
    """

    image: tuple[int, int, int]
    classifier: tuple[int, ...]
    classes: int
    image_encoder: tuple[int, ...]
    representation_encoder: tuple[int, ...]
    encoder: tuple[int, ...]
    latent: int
    decoder: tuple[int, ...]
    samples: int
    parameters: tuple[int, int]


def dimensions_of(defence: CARSO) -> Dimensions:
    """Read the sizes off the modules."""
    purifier = defence.purifier
    device = next(purifier.parameters()).device
    shapes = defence.representation.shapes(torch.zeros(1, *purifier.shape, device=device, dtype=torch.float32))
    taps = [sum(map(math.prod, found)) for found in shapes.values() if found != [purifier.shape]]
    return Dimensions(
        image=purifier.shape,
        classifier=(math.prod(purifier.shape), *taps),
        classes=defence.classes,
        image_encoder=_layers(purifier.image_encoder) or (math.prod(purifier.shape),),
        representation_encoder=_after(purifier.neurons, _layers(purifier.representation_encoder) or (purifier.code,)),
        encoder=_layers(purifier.encoder),
        latent=purifier.latent,
        decoder=_from(purifier.latent + purifier.code, _layers(purifier.decoder), math.prod(purifier.shape)),
        samples=defence.samples,
        parameters=(_parameters(defence.classifier), _parameters(purifier)),
    )


def draw(dimensions: Dimensions) -> str:
    """Both figures, one above the other, as an SVG that follows the reader's light or dark."""
    b = dimensions
    n, purifier = (f"{count:,}" for count in b.parameters)
    label = f"CARSO at training time and at inference time; N has {n} parameters, the purifier {purifier}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1268 640" role="img" aria-label="{label}">'
        f"<style>\n{STYLE}</style>"
        '<rect class="paper" width="1268" height="640" rx="12"/>'
        f"{_text(30, 36, 'Training the purifier: N is frozen', 'title ink', start=True)}{_training(b)}"
        f"{_text(30, 356, f'Inference: {b.samples:,} candidates, one vote', 'title ink', start=True)}{_inference(b)}"
        f"{_text(1238, 622, f'{n} parameters in N, {purifier} in the purifier', 'sizes soft', end=True)}"
        "</svg>\n"
    )


def _training(b: Dimensions) -> str:
    return "".join(
        [
            _pill(86, 180, "x, or x'", "clean or attacked"),
            _wire((142, 180), (166, 180), (166, 120), (190, 120)),
            _wire((142, 180), (166, 180), (166, 250), (190, 250)),
            _network(250, 120, "N", b.classifier, frozen=True),
            _wire((310, 120), (324, 120)),
            _pill(380, 120, "r", _represented(b)),
            _wire((436, 120), (450, 120)),
            _network(510, 120, "R", b.representation_encoder),
            _wire((570, 120), (584, 120)),
            _pill(640, 120, "c", f"code, {b.representation_encoder[-1]}"),
            _network(250, 250, "I", b.image_encoder),
            _wire((310, 250), (450, 250)),
            _wire((640, 146), (640, 190), (430, 190), (430, 240), (450, 240)),
            _network(510, 250, "q", b.encoder),
            _wire((570, 250), (584, 250)),
            _pill(640, 250, "z", f"latent, {b.latent}"),
            _wire((696, 120), (780, 120), (780, 175), (805, 175)),
            _wire((696, 250), (780, 250), (780, 195), (805, 195)),
            _network(865, 185, "D", b.decoder),
            _wire((925, 185), (944, 185)),
            _pill(1000, 185, "x̂", "reconstruction"),
            _loss(1000, 90, "BCE(x̂, x)"),
            _wire((1000, 159), (1000, 112)),
            _loss(820, 290, "KL(q ‖ N(0, I))"),
            _wire((640, 276), (640, 290), (750, 290)),
        ]
    )


def _inference(b: Dimensions) -> str:
    k = f"{b.samples:,}"
    return "".join(
        [
            _pill(86, 440, "x", "anything"),
            _wire((142, 440), (162, 440)),
            _network(222, 440, "N", b.classifier, frozen=True),
            _wire((282, 440), (300, 440)),
            _pill(356, 440, "r", _represented(b)),
            _wire((412, 440), (430, 440)),
            _network(490, 440, "R", b.representation_encoder),
            _wire((550, 440), (568, 440)),
            _pill(624, 440, "c", f"code, {b.representation_encoder[-1]}"),
            _pill(624, 550, "z₁ … zₖ", f"{k} from N(0, I)"),
            _wire((680, 440), (700, 440), (700, 490), (720, 490)),
            _wire((680, 550), (700, 550), (700, 510), (720, 510)),
            _network(780, 500, "D", b.decoder),
            _wire((840, 500), (858, 500)),
            _pill(914, 500, "x₁ … xₖ", "recalled"),
            _wire((970, 500), (988, 500)),
            _network(1048, 500, "N", b.classifier, frozen=True),
            _wire((1108, 500), (1126, 500)),
            _pill(1182, 500, "mode", f"of {k}"),
        ]
    )


def _represented(b: Dimensions) -> str:
    neurons = b.representation_encoder[0]
    return f"{neurons:,}, x included" if neurons > sum(b.classifier[1:]) else f"{neurons:,} neurons"


def _network(x: int, y: int, name: str, sizes: Sequence[int], frozen: bool = False) -> str:
    left, right = (_half(size) for size in (sizes[0], sizes[-1]))
    corners = f"{x - 60},{y - left} {x + 60},{y - right} {x + 60},{y + right} {x - 60},{y + left}"
    kind = "frozen" if frozen else "net"
    listed = "-".join(f"{size}" for size in sizes)
    below = y + max(left, right) + 15
    return (
        f'<polygon class="{kind}" points="{corners}" stroke-width="1.5" stroke-linejoin="round"/>'
        f"{_text(x, y + 5, name, 'name ink')}{_text(x, below, listed, 'sizes soft')}"
    )


def _half(size: int) -> int:
    return round(8 + 3.6 * math.log2(max(size, 2)))


def _pill(x: int, y: int, name: str, note: str) -> str:
    return (
        f'<rect class="pill" x="{x - 56}" y="{y - 26}" width="112" height="52" rx="14" stroke-width="1.5"/>'
        f"{_text(x, y - 2, name, 'name ink')}{_text(x, y + 15, note, 'sizes soft')}"
    )


def _loss(x: int, y: int, name: str) -> str:
    return (
        f'<rect class="loss" x="{x - 70}" y="{y - 20}" width="140" height="40" rx="8" stroke-width="1.5"/>'
        f"{_text(x, y + 5, name, 'name ink')}"
    )


def _wire(*points: tuple[int, int]) -> str:
    (x_0, y_0), (x_1, y_1) = points[-2:]
    angle = math.degrees(math.atan2(y_1 - y_0, x_1 - x_0))
    path = " ".join(f"{x},{y}" for x, y in points)
    tip = f'<path class="tip" d="M0,0 L-9,-4.5 L-9,4.5 Z" transform="translate({x_1},{y_1}) rotate({angle:.1f})"/>'
    return f'<polyline class="wire" points="{path}" stroke-width="1.5"/>{tip}'


def _text(x: int, y: int, text: str, kind: str, start: bool = False, end: bool = False) -> str:
    anchor = ' style="text-anchor: start"' if start else ' style="text-anchor: end"' if end else ""
    return f'<text class="{kind}" x="{x}" y="{y}"{anchor}>{escape(text)}</text>'


def _from(entering: int, layers: tuple[int, ...], leaving: int) -> tuple[int, ...]:
    """The layers' sizes if they are a chain from what enters, else what enters and what leaves."""
    return layers if layers[:1] == (entering,) else (entering, leaving)


def _layers(network: nn.Module) -> tuple[int, ...]:
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return (*(layer.in_features for layer in linears[:1]), *(layer.out_features for layer in linears))


def _after(neurons: int, layers: tuple[int, ...]) -> tuple[int, ...]:
    return layers if layers[0] == neurons else (neurons, *layers)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
