"""Warnings of this package."""

from __future__ import annotations

__all__ = ["FewTrainingRowsWarning"]


class FewTrainingRowsWarning(UserWarning):
    """There are too few rows for the clusters that were asked for.

    The index works. Its lists, or its codes, are worse than those of fewer clusters.
    """
