"""Where a plan shows: small modules, each for one library, which it alone imports."""

from __future__ import annotations


__all__: list[str] = []
