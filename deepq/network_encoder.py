"""Where older pickles look for a network of a user's own class; nothing else is here."""

from deepq.encoders.network import OwnNetwork as _Whole

__all__ = ["_Whole"]
