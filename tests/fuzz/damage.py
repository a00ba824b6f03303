"""What happens to files, and to the JSON in them, by seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes of which one to three parts are lost, zeroed, doubled or replaced by others."""
    for _ in range(chance.randint(1, 3)):
        start = chance.choice([chance.randrange(len(content) + 1), chance.randrange(min(len(content), 2000) + 1)])
        end = min(len(content), start + chance.choice([1, 1, 1, 4, 40, len(content)]))
        junk = chance.choice([b"", chance.randbytes(max(1, end - start)), bytes(end - start), content[end : end + 9]])
        content = content[:start] + junk + content[end:]
    return content


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a tree of JSON."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*place, key)
        yield from places(value, (*place, key))


def some_place(tree: Any, chance: random.Random) -> tuple[Any, Any]:
    """Any value's holder, a dictionary or a list, and its key there; of a tree without values, itself and a new key."""
    *way, last = chance.choice(list(places(tree)) or [("x",)])
    holder = tree
    for key in way:
        holder = holder[key]
    return holder, last
