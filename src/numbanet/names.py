"""Tables of names: looking one up, and a sentence when it is not there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping


def lookup(kind: str, name: str, table: Mapping):
    """table[name]; else a ValueError that lists the known names and suggests the nearest (TypeError if not a str)."""
    if not isinstance(name, str):
        raise TypeError(f"{kind} must be a string, not {name!r}; known: {', '.join(table)}")
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name[:100], table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name[:100]!r}; known: {', '.join(table)}{hint}")
