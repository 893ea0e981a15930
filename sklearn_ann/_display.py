"""A picture of the recall curve, in the way of scikit-learn's displays."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_ann._sklearn import check_matplotlib_support
from sklearn_ann._typing import Vectors


class RecallCurveDisplay:
    """Recall against queries per second, a point for each number of lists.

    Make one with `from_estimator` or `from_curves`; they draw it, too. Needs
    matplotlib.

    Parameters
    ----------
    nprobe : array-like of shape (n_points,)
        Numbers of lists.
    recall : array-like of shape (n_points,)
        The recall of each.
    seconds_per_query : array-like of shape (n_points,)
        The time of each.
    chosen_nprobe : int, default=None
        The number of lists to mark; it should be one of `nprobe`.
    name : str, default=None
        What the legend calls the curve.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.

    See Also
    --------
    IVFFlatNeighbors.recall_curve : The numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> display = RecallCurveDisplay.from_estimator(index)  # doctest: +SKIP
    >>> RecallCurveDisplay.from_estimator(other, ax=display.ax_)  # doctest: +SKIP
    >>> plt.show()  # doctest: +SKIP
    """

    line_: Any
    ax_: Any
    figure_: Any

    def __init__(
        self,
        *,
        nprobe: ArrayLike,
        recall: ArrayLike,
        seconds_per_query: ArrayLike,
        chosen_nprobe: int | None = None,
        name: str | None = None,
    ) -> None:
        self.nprobe = nprobe
        self.recall = recall
        self.seconds_per_query = seconds_per_query
        self.chosen_nprobe = chosen_nprobe
        self.name = name

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            What the legend calls the curve; `name` of the display if None.
        **kwargs : dict
            Passed to ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RecallCurveDisplay
            The display itself, with `line_`, `ax_` and `figure_`.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        name = self.name if name is None else name
        recall = np.asarray(self.recall)
        speeds = 1 / np.asarray(self.seconds_per_query)
        kwargs = {"marker": ".", "label": name, **kwargs}
        (self.line_,) = ax.plot(recall, speeds, **kwargs)
        is_chosen = np.asarray(self.nprobe) == self.chosen_nprobe
        color = self.line_.get_color()
        ax.plot(recall[is_chosen], speeds[is_chosen], "o", color=color, markersize=9)
        ax.set(xlabel="Recall", ylabel="Queries per second", yscale="log")
        if name is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Vectors | None = None,
        *,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Measure the recall curve of an estimator, and draw it.

        Parameters
        ----------
        estimator : IVFFlatNeighbors or IVFPQNeighbors
            Fitted.
        X : array-like of shape (n_queries, n_features), default=None
            Queries; those of the calibration if None.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            What the legend calls the curve; the name of the class if None.
        **kwargs : dict
            Passed to ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RecallCurveDisplay
            The curve. The number of lists that a search probes is marked.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        nprobe, recall, seconds = estimator.recall_curve(X)
        return cls.from_curves(
            nprobe,
            recall,
            seconds,
            chosen_nprobe=min(estimator._nprobe(), estimator.nlist_),
            ax=ax,
            name=type(estimator).__name__ if name is None else name,
            **kwargs,
        )

    @classmethod
    def from_curves(
        cls,
        nprobe: ArrayLike,
        recall: ArrayLike,
        seconds_per_query: ArrayLike,
        *,
        chosen_nprobe: int | None = None,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what `recall_curve` has returned.

        Parameters
        ----------
        nprobe : array-like of shape (n_points,)
            Numbers of lists.
        recall : array-like of shape (n_points,)
            The recall of each.
        seconds_per_query : array-like of shape (n_points,)
            The time of each.
        chosen_nprobe : int, default=None
            The number of lists to mark.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.
        name : str, default=None
            What the legend calls the curve.
        **kwargs : dict
            Passed to ``matplotlib.pyplot.plot``.

        Returns
        -------
        display : RecallCurveDisplay
            The curve.
        """
        display = cls(
            nprobe=nprobe,
            recall=recall,
            seconds_per_query=seconds_per_query,
            chosen_nprobe=chosen_nprobe,
            name=name,
        )
        return display.plot(ax, **kwargs)
