"""Which images the report shows, by rules stated beside them, and what the defence recalled of them.

    random                 drawn by the seed, whatever became of them
    narrow win             right, by the least margin of the vote
    failure                wrong, drawn by the seed
    only defence right     right where the bare classifier under attack is wrong, drawn by the seed
    only classifier right  the reverse, drawn by the seed

An image appears once, under the first rule that picks it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from carso.evaluation.models import Defence, Models, Outcome, behind, believing, device_of
from carso.evaluation.queries import checked_query
from carso.evaluation.records import Gallery
from carso.evaluation.seeding import generator_of

PICKS: Mapping[str, int] = {
    "random": 4,
    "narrow win": 2,
    "failure": 2,
    "only defence right": 2,
    "only classifier right": 2,
}
SHOWN = 5
AVERAGED = 100


def subject(columns: Models) -> str:
    """The column that the gallery is about: the last defence that votes, else the last purifier, or the last column."""
    defences = [name for name, column in columns.items() if isinstance(column, Defence)]
    purified = [name for name, column in columns.items() if behind(column) is not believing(column)]
    return (defences or purified or list(columns))[-1]


def rival(columns: Models) -> str | None:
    """The column of the bare classifier that `subject` defends, if the table has it."""
    defended = columns[subject(columns)]
    bare = behind(defended)
    theirs = (name for name, column in columns.items() if column is bare)
    return None if bare is believing(defended) else next(theirs, None)


def choose(labels: Tensor, ours: Outcome, theirs: Outcome | None, generator: torch.Generator) -> dict[int, str]:
    """The chosen images' indices, each with the rule that picked it.

    Args:
        labels: true classes (n,).
        ours: outcome of the gallery's column.
        theirs: outcome of the classifier it defends, if there is one.
        generator: of the random draws.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    right = ours.predicted == labels
    pools = {"random": shuffled, "failure": shuffled[~right[shuffled]]}
    shares = ours.shares()
    if shares is not None:
        first, second = shares.topk(2, dim=1).values.unbind(1)
        narrowest = (first - second).argsort(stable=True)
        pools["narrow win"] = narrowest[right[narrowest]]
    if theirs is not None:
        theirs_right = theirs.predicted == labels
        pools["only defence right"] = shuffled[(right & ~theirs_right)[shuffled]]
        pools["only classifier right"] = shuffled[(theirs_right & ~right)[shuffled]]
    return _first_come(pools)


def _first_come(pools: Mapping[str, Tensor]) -> dict[int, str]:
    chosen: dict[int, str] = {}
    for rule, picks in PICKS.items():
        fresh = [index for index in pools.get(rule, torch.empty(0)).tolist() if index not in chosen]
        chosen |= dict.fromkeys(fresh[:picks], rule)
    return chosen


def hang(columns: Models, chosen: dict[int, str], clean: Tensor, attacked: Tensor, seed: int) -> Gallery:
    """The gallery of the chosen images, out of all clean and attacked ones (n, C, H, W)."""
    index = torch.tensor(list(chosen), dtype=torch.long)
    shift = (attacked[index] - clean[index]).double().flatten(1)
    name = subject(columns)
    gallery = Gallery(
        column=name,
        classifier=rival(columns),
        rules=list(chosen.values()),
        index=index,
        clean=clean[index],
        attacked=attacked[index],
        linf=shift.abs().amax(1).float(),
        l2=shift.norm(dim=1).float(),
    )
    column = columns[name]
    return _recollect(gallery, column, seed) if isinstance(column, Defence) else gallery


def _recollect(gallery: Gallery, defence: Defence, seed: int) -> Gallery:
    with torch.no_grad():
        images = gallery.attacked.to(device_of(defence.classifier))
        recalled = checked_query(
            defence.recall, images, samples=AVERAGED, generator=generator_of(seed, "gallery")
        ).cpu()
    bytes_ = [(255 * pixels).round().byte() for pixels in (recalled[:, :SHOWN], recalled.mean(1))]
    return gallery.model_copy(update={"recalled": bytes_[0], "mean": bytes_[1], "averaged": AVERAGED})
