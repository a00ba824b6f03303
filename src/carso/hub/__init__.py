"""The hub: a defence as others take it, in a folder or a repository, with checksums and a card of what was measured."""

from carso.hub.sharing import push, restore, store

__all__ = ["push", "restore", "store"]
