"""How many candidates of a query are kept before they are sorted out."""

from __future__ import annotations

from numba.extending import register_jitable

from sklearn_ann._layout import PANEL


@register_jitable
def growth(k):
    """New candidates until the next shrink: rarely for many, often for few."""
    return k + 16


@register_jitable
def capacity(k):
    """Room for candidates: neighbours, rows that bounds cannot tell apart, a panel."""
    return 2 * k + 32 + growth(k) + PANEL
