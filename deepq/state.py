"""Where older pickles look for an objective of a user's own class; nothing else is here."""

from deepq.index.carried import OwnObjective as _OwnObjective

__all__ = ["_OwnObjective"]
