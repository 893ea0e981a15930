"""How many candidates of a query are kept before they are sorted out."""

from __future__ import annotations

from sklearn_ann._cpu._jit import jit
from sklearn_ann._layout import PANEL


@jit
def growth(k):
    """New candidates until the next shrink: rarely for many, often for few."""
    return k + 16


@jit
def capacity(k):
    """Room for candidates: neighbours, rows that bounds cannot tell apart, a panel."""
    return 2 * k + 32 + growth(k) + PANEL
