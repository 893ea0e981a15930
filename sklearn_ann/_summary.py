"""What a fitted estimator is, in a few lines: as text, and as HTML in a notebook."""

from __future__ import annotations

import html

import numpy as np

from sklearn_ann._state import LearnedStateMixin


class SummaryMixin(LearnedStateMixin):
    """`summary`, and the same beside scikit-learn's diagram.

    An estimator adds its own lines, `_facts`.
    """

    def summary(self) -> str:
        """Describe the index: its size, its lists and the recall of its searches.

        Returns
        -------
        text : str
            A line for each fact. A notebook shows the same as a table.
        """
        facts = self._snapshot()._facts()
        width = max(map(len, facts)) + 2
        lines = (f"{name + ':':{width}}{value}" for name, value in facts.items())
        return "\n".join([type(self).__name__, *lines])

    def _facts(self):
        n_bytes = _n_bytes(self._index)
        n, d = self.n_samples_fit_, self.n_features_in_
        return {
            "rows": f"{n:,} of {d:,} features, {self._index_dtype}",
            "memory": f"{n_bytes:,} bytes, {n_bytes / n:,.0f} a row",
        }

    @property
    def _repr_html_(self):
        # An AttributeError if HTML is not wanted: see sklearn.set_config.
        diagram = super()._repr_html_
        return lambda: self._with_facts(diagram())

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] = self._with_facts(bundle["text/html"])
        return bundle

    def _with_facts(self, diagram):
        """The HTML of scikit-learn, and a table behind it if the estimator is fitted.

        It needs no style and no script.
        """
        if not self.__sklearn_is_fitted__():
            return diagram
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._snapshot()._facts().items()
        )
        # The diagram may be a whole page.
        content, end, rest = diagram.rpartition("</body>")
        return f"{content or rest}<table>{rows}</table>{end}{rest if end else ''}"


def _n_bytes(index):
    """Bytes of the arrays of an index, of its vectors too."""
    if isinstance(index, tuple):
        return sum(map(_n_bytes, index))
    return index.nbytes if isinstance(index, np.ndarray) else 0
