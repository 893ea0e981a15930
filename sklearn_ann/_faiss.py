"""From an index of Faiss to an estimator: the same lists, the same neighbours."""

from __future__ import annotations

import numpy as np

from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors

_METRIC_L2 = 1  # faiss.METRIC_L2


def from_faiss(index, X=None, **params):
    """Make an estimator of an index of Faiss.

    Nothing is trained: the estimator has the centroids of the index, so that its lists
    are the same, and with them its neighbours for every `nprobe`. (Faiss measures in
    float32: a row halfway between two centroids may be in the other list there.)

    Parameters
    ----------
    index : faiss.IndexFlatL2 or faiss.IndexIVFFlat
        With the L2 metric, trained. It is only read.
    X : array-like of shape (n_samples, n_features), default=None
        Vectors to index. If None, those that `index` holds, by their numbers, which
        must be 0 to ``index.ntotal - 1`` (not others, set with ``add_with_ids``).
    **params
        Parameters of the estimator but `nlist`, which is that of the index. Unless
        given, so is `nprobe`, and `metric` is 'sqeuclidean', as Faiss returns squared
        distances.

    Returns
    -------
    estimator : FlatL2Neighbors or IVFFlatNeighbors
        Fitted.

    Raises
    ------
    TypeError
        If the index is of another kind.
    ValueError
        If it has another metric, is not trained, or holds no vectors, or vectors with
        other numbers, and X is None.

    Examples
    --------
    >>> import faiss  # doctest: +SKIP
    >>> index = faiss.read_index("sentences.faiss")  # doctest: +SKIP
    >>> estimator = from_faiss(index, n_neighbors=4)  # doctest: +SKIP
    """
    kind = type(index).__name__
    if kind not in ("IndexFlatL2", "IndexFlat", "IndexIVFFlat"):
        raise TypeError(
            f"Cannot make an estimator of {kind}. Give an IndexFlatL2 or an "
            "IndexIVFFlat; faiss.downcast_index tells what an index is."
        )
    if index.metric_type != _METRIC_L2:
        raise ValueError(
            "The index must have the L2 metric. Search another one in Faiss."
        )
    if not index.is_trained:
        raise ValueError("The index is not trained: call its train method first.")
    if "nlist" in params:
        raise TypeError("nlist is that of the index and cannot be given.")
    if params.get("metric") == "cosine":
        raise ValueError(
            "metric='cosine' needs centroids of normalised vectors: fit "
            "IVFFlatNeighbors, or make an index of normalised vectors."
        )
    X = _vectors(index, kind) if X is None else X
    params = {"metric": "sqeuclidean", **params}
    if kind != "IndexIVFFlat":
        return FlatL2Neighbors(**params).fit(X)
    params = {"nlist": index.nlist, "nprobe": index.nprobe, **params}
    centroids = np.array(index.quantizer.reconstruct_n(0, index.nlist))
    return IVFFlatNeighbors(**params)._fit_lists(X, centroids)


def _vectors(index, kind):
    """The vectors of an index in the order of their numbers, which have no gaps."""
    if index.ntotal == 0:
        raise ValueError("The index holds no vectors. Add some to it, or give X.")
    if kind == "IndexIVFFlat":
        import faiss

        lists = index.invlists
        parts = [
            faiss.rev_swig_ptr(lists.get_ids(probe), lists.list_size(probe))
            for probe in range(index.nlist)
        ]
        ids = np.sort(np.concatenate(parts))
        if not np.array_equal(ids, np.arange(index.ntotal)):
            raise ValueError(
                "The vectors of the index are not numbered from 0 to ntotal - 1 "
                "(add_with_ids, or remove_ids?). Give them as X, in the order of "
                "the row numbers that they are to have."
            )
    return index.reconstruct_n(0, index.ntotal)
