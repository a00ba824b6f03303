"""What ours is raced against: other libraries' attacks, and the loops that one would write first.

Libraries are imported where they are used; `attacks` and `deepfool` leave out those that are not installed.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from benchmarks.speed.race import Contestant
from torch import Tensor, nn

from carso.defence import CARSO
from carso.purifier import Purifier
from carso.training.recipe import AttackSpec, ClassifierTraining
from carso.types import Images, Labels

PEERS = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")


def versions() -> dict[str, str]:
    """The version of each peer, or what installs it."""
    found = dict.fromkeys(PEERS, "not installed: make bench installs the peers")
    for peer in PEERS:
        with suppress(PackageNotFoundError):
            found[peer] = version(peer)
    return found


def pgd(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    eps: float,
    alpha: float,
    steps: int,
    only: Collection[str] = PEERS,
) -> Iterator[tuple[str, Contestant]]:
    """PGD in Linf from a random start, by each peer of these that is installed; no other is made."""
    if "torchattacks" in only and find_spec("torchattacks"):
        import torchattacks

        theirs = torchattacks.PGD(classifier, eps=eps, alpha=alpha, steps=steps, random_start=True)
        yield "torchattacks", lambda: theirs(images, labels)
    if "foolbox" in only and find_spec("foolbox"):
        import foolbox

        peer = foolbox.PyTorchModel(classifier, bounds=(0, 1))
        linf = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=steps, random_start=True)
        yield "foolbox", lambda: linf.run(peer, images, labels, epsilon=eps)
    if "adversarial-robustness-toolbox" in only and find_spec("art"):
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        with torch.no_grad():
            classes = classifier(images[:1]).shape[1]
        estimator = PyTorchClassifier(
            classifier, nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes, clip_values=(0, 1), device_type="cpu"
        )
        attack = ProjectedGradientDescentPyTorch(
            estimator, eps=eps, eps_step=alpha, max_iter=steps, num_random_init=1, batch_size=1000, verbose=False
        )
        name = "adversarial-robustness-toolbox"
        yield name, lambda: torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def deepfool(
    classifier: nn.Module, images: Images, labels: Labels, steps: int, overshoot: float
) -> Iterator[tuple[str, Contestant]]:
    """DeepFool in Linf, by foolbox."""
    if find_spec("foolbox"):
        import foolbox

        peer = foolbox.PyTorchModel(classifier, bounds=(0, 1))
        attack = foolbox.attacks.LinfDeepFoolAttack(steps=steps, candidates=10, overshoot=overshoot, loss="logits")
        yield "foolbox", lambda: attack(peer, images, labels, epsilons=None)[1]


def published_vote(defence: CARSO, images: Images, latents: Tensor) -> Labels:
    """The published inference: for each latent, decode the batch, classify it, and keep the classes; then the mode."""
    purifier: Purifier = defence.purifier
    with torch.no_grad():
        codes = defence.codes(images)
        answers = [
            defence.classifier(purifier.decode(z.expand(len(codes), -1), codes)).argmax(1) for z in latents.unbind(0)
        ]
    counts = nn.functional.one_hot(torch.stack(answers, dim=1), defence.classes).sum(1)
    return counts.argmax(1)


def adversarial_training(
    classifier: nn.Module, images: Images, labels: Labels, schedule: ClassifierTraining
) -> nn.Module:
    """The straightforward epoch of adversarial training: each part of every batch attacked by torchattacks."""
    model = copy.deepcopy(classifier)
    optimiser = torch.optim.RAdam(model.parameters(), lr=schedule.rate)
    for indices in torch.randperm(len(images)).split(schedule.batch):
        mixed = mixed_by_torchattacks(model.eval(), images[indices], labels[indices], schedule.attacks, schedule.clean)
        loss = nn.functional.cross_entropy(model.train()(mixed), labels[indices])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def mixed_by_torchattacks(
    model: nn.Module,
    images: Images,
    labels: Labels,
    specs: tuple[AttackSpec, ...] | list[AttackSpec],
    clean: bool = True,
) -> Images:
    """The batch in equal parts: the first clean, if one is, each other one under an FGSM or PGD attack in Linf."""
    import torchattacks

    count = len(specs) + clean
    parts = list(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
    crafted = [
        torchattacks.FGSM(model, eps=spec.eps)
        if spec.attack == "fgsm"
        else torchattacks.PGD(model, eps=spec.eps, alpha=spec.alpha, steps=spec.steps)
        for spec in specs
    ]
    attacked = [attack(x, y) for attack, (x, y) in zip(crafted, parts[clean:], strict=True)]
    return torch.cat([*(images for images, _ in parts[:clean]), *attacked])
