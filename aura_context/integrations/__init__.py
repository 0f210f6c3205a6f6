"""Where a plan shows: small modules, each for one library, which it alone imports."""

from __future__ import annotations

from ._named import Contexts
from ._resolved import Resolved


__all__ = ["Contexts", "Resolved"]
