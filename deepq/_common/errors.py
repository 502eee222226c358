"""The five errors of the library.

Each is the natural Python type and also the type that faiss raises for the same mistake, so that
code written for faiss still catches it.
"""

from __future__ import annotations


class DimensionError(ValueError, AssertionError):
    """An array has the wrong shape, or a count is not positive."""


class InputError(ValueError, RuntimeError):
    """An argument has the right kind but an unusable value."""


class KindError(TypeError, AttributeError):
    """An argument is of the wrong kind."""


class StateError(RuntimeError):
    """The object is in the wrong state for the call, for example not trained."""


class FormatError(ValueError, RuntimeError):
    """A file is not what it should be: damaged, of another kind, or of an unknown version."""
