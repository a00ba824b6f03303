"""The works that are timed, each with its rivals, the proof that all did the same, and its useful operations.

    PGD        T steps of 4 sum_l m_l n_l operations an image: forwards and backwards through the layers m_l x n_l
    recall     K (2 sum_l m_l n_l) operations an image: the decoder without the products that latents or images share,
               then N

Peers are imported where they are used, and left out with a word where they are not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from carso import attacks
from carso.bench.machine import Shape
from carso.bench.race import Contestant
from carso.defence import CARSO
from carso.purifier import Purifier
from carso.types import Budget, Images, Labels

EPS, STEPS, ALPHA, OVERSHOOT = 0.3, 40, 0.01, 0.02
SUCCESS_WITHIN = 1.0
"""Points by which the success rates of attacks that claim the same work may differ."""


@dataclass(frozen=True)
class Work:
    """One race.

    Args:
        name: of the work.
        ours: the contestant that the others are compared with.
        contestants: by name, each doing all of it.
        products: the shapes of its matrix products, for the machine's limit; empty for none.
        repeats: how often `products` are computed.
        check: name of a contestant, its result -> a figure that must agree; empty for none.
        within: how far the figures may differ from ours.
    """

    name: str
    ours: str
    contestants: Mapping[str, Contestant]
    products: tuple[Shape, ...] = ()
    repeats: int = 1
    check: Callable[[object], float] | None = None
    within: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)


def linears(module: nn.Module) -> list[tuple[int, int]]:
    """(inputs, outputs) of every linear layer, in order."""
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def pgd(classifier: nn.Module, images: Images, labels: Labels) -> Work:
    """PGD-40 in Linf: ours by hand, ours by autograd, and every peer."""
    budget = Budget("Linf", EPS)

    def ours(fast: bool | None) -> Contestant:
        return lambda: attacks.pgd(classifier, images, labels, budget, steps=STEPS, alpha=ALPHA, fast=fast)

    contestants = {"carso": ours(None), "carso, autograd": ours(False)} | dict(_pgd_peers(classifier, images, labels))
    n = len(images)
    shapes = [s for i, o in linears(classifier) for s in ((n, i, o), (n, o, i))]
    return Work(
        f"PGD-{STEPS} Linf {EPS}, {n} images",
        "carso",
        contestants,
        tuple(shapes),
        STEPS,
        _success(classifier, labels),
        SUCCESS_WITHIN,
    )


def deepfool(classifier: nn.Module, images: Images, labels: Labels) -> Work:
    """DeepFool in Linf, 50 linearisations, without a bound on the distance."""
    budget = Budget("Linf", 1.0)
    contestants: dict[str, Contestant] = {
        "carso": lambda: attacks.deepfool(classifier, images, labels, budget, steps=50, overshoot=OVERSHOOT)
    }
    if find_spec("foolbox"):
        import foolbox

        peer = foolbox.PyTorchModel(classifier, bounds=(0, 1))
        attack = foolbox.attacks.LinfDeepFoolAttack(steps=50, candidates=10, overshoot=OVERSHOOT, loss="logits")
        contestants["foolbox"] = lambda: attack(peer, images, labels, epsilons=None)[1]
    name = f"DeepFool Linf, {len(images)} images"
    return Work(name, "carso", contestants, check=_success(classifier, labels), within=SUCCESS_WITHIN)


def prediction(defence: CARSO, images: Images) -> Work:
    """The vote of K candidates: our three stops against the published loop, which decodes one latent after another."""
    latents = defence.latents(generator=torch.Generator().manual_seed(0))

    def ours(stop: str) -> Contestant:
        return lambda: defence.poll(images, stop=stop, generator=torch.Generator().manual_seed(0)).winners  # type: ignore[arg-type]

    contestants: dict[str, Contestant] = {f"carso, stop {stop}": ours(stop) for stop in ("confident", "exact", "never")}
    contestants["loop over the samples"] = lambda: published(defence, images, latents)
    rows = len(images) * len(latents)
    layers = linears(defence.purifier.decoder)[1:] + linears(defence.classifier)
    return Work(
        f"vote of {len(latents)}, {len(images)} images",
        "carso, stop never",
        contestants,
        tuple((min(rows, 4096), i, o) for i, o in layers),
        max(1, round(rows / 4096)),
        lambda winners: float((winners != contestants["loop over the samples"]()).sum()),  # type: ignore[attr-defined]
    )


def published(defence: CARSO, images: Images, latents: Tensor) -> Labels:
    """The published inference: for each latent, decode the batch, classify it, and keep the classes; then the mode."""
    purifier: Purifier = defence.purifier
    with torch.no_grad():
        codes = defence.codes(images)
        answers = [
            defence.classifier(purifier.decode(z.expand(len(codes), -1), codes)).argmax(1) for z in latents.unbind(0)
        ]
    counts = nn.functional.one_hot(torch.stack(answers, dim=1), defence.classes).sum(1)
    return counts.argmax(1)


def training(classifier: nn.Module, images: Images, labels: Labels, batch: int = 256) -> Work:
    """Adversarial training on the foreseen attacks: our step against autograd with torchattacks' attacks."""
    import copy

    from carso.training.mixture import Mixture
    from carso.training.recipe import read_recipe

    schedule = read_recipe("quick").adversarial
    assert schedule is not None
    batches = list(zip(images.split(batch), labels.split(batch), strict=True))
    mixture = Mixture(schedule.attacks)

    def epoch(mix: Callable[[nn.Module, Images, Labels], Images]) -> Contestant:
        def run() -> nn.Module:
            model = copy.deepcopy(classifier)
            optimiser = torch.optim.RAdam(model.parameters(), lr=1e-4)
            for some, of_some in batches:
                mixed = mix(model.eval(), some, of_some)
                loss = nn.functional.cross_entropy(model.train()(mixed), of_some)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            return model.eval()

        return run

    contestants = {"carso": epoch(mixture.mix)}
    if find_spec("torchattacks"):
        contestants["autograd and torchattacks"] = epoch(_mixed_by_torchattacks)
    return Work(f"adversarial training, {len(images)} images", "carso", contestants)


def _mixed_by_torchattacks(model: nn.Module, images: Images, labels: Labels) -> Images:
    import torchattacks

    clean, *parts = zip(images.tensor_split(5), labels.tensor_split(5), strict=True)
    crafted = [
        torchattacks.FGSM(model, eps=0.15),
        torchattacks.FGSM(model, eps=0.3),
        torchattacks.PGD(model, eps=0.15, alpha=ALPHA, steps=STEPS),
        torchattacks.PGD(model, eps=0.3, alpha=ALPHA, steps=STEPS),
    ]
    return torch.cat([clean[0], *(attack(x, y) for attack, (x, y) in zip(crafted, parts, strict=True))])


def _pgd_peers(classifier: nn.Module, images: Images, labels: Labels) -> Iterator[tuple[str, Contestant]]:
    if find_spec("torchattacks"):
        import torchattacks

        theirs = torchattacks.PGD(classifier, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=True)
        yield "torchattacks", lambda: theirs(images, labels)
    if find_spec("foolbox"):
        import foolbox

        peer = foolbox.PyTorchModel(classifier, bounds=(0, 1))
        linf = foolbox.attacks.LinfPGD(abs_stepsize=ALPHA, steps=STEPS, random_start=True)
        yield "foolbox", lambda: linf.run(peer, images, labels, epsilon=EPS)
    if find_spec("art"):
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        classes = linears(classifier)[-1][1]
        estimator = PyTorchClassifier(
            classifier, nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes, clip_values=(0, 1), device_type="cpu"
        )
        attack = ProjectedGradientDescentPyTorch(
            estimator, eps=EPS, eps_step=ALPHA, max_iter=STEPS, num_random_init=1, batch_size=1000, verbose=False
        )
        yield (
            "adversarial-robustness-toolbox",
            lambda: torch.from_numpy(attack.generate(images.numpy(), labels.numpy())),
        )


def _success(classifier: nn.Module, labels: Labels) -> Callable[[object], float]:
    def rate(adversarial: object) -> float:
        assert isinstance(adversarial, Tensor)
        with torch.no_grad():
            return 100 * float((classifier(adversarial).argmax(1) != labels).float().mean())

    return rate
