"""Warnings of this package."""

from __future__ import annotations

__all__ = [
    "DisconnectedGraphWarning",
    "FewTrainingRowsWarning",
    "OutgrownListsWarning",
    "TargetRecallWarning",
]


class DisconnectedGraphWarning(UserWarning):
    """A graph of neighbours had several connected components.

    The graph has the shortest edges between them, too, as ``connected=True`` asks for.
    More neighbours, or a larger radius, may connect it without them.
    """


class FewTrainingRowsWarning(UserWarning):
    """There are too few rows for the clusters that were asked for.

    The index works. Its lists, or its codes, are worse than those of fewer clusters.
    """


class OutgrownListsWarning(UserWarning):
    """Rows were added for which ``nlist="auto"`` would have chosen many more lists.

    The index works, and finds what it would find otherwise or more. Its searches take
    longer.
    """


class TargetRecallWarning(UserWarning):
    """A recall was asked for that these parameters do not reach, or cannot promise.

    The index works, and finds the share of the neighbours that `recall_` says.
    """
