"""Small modules that show or carry values, each for one library."""

from __future__ import annotations

from ._named import Contexts
from ._resolved import Resolved


__all__ = ["Contexts", "Resolved"]
