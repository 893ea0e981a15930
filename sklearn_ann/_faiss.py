"""From an index of Faiss to an estimator: the same lists, the same neighbours."""

from __future__ import annotations

import numpy as np

from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors

_METRIC_L2 = 1  # faiss.METRIC_L2


def from_faiss(index, X=None, **params):
    """Make an estimator of an index of Faiss.

    Nothing is trained: the estimator has the centroids of the index, so that its lists
    are the same, and with them its neighbours for every `nprobe`.

    Parameters
    ----------
    index : faiss.IndexFlatL2 or faiss.IndexIVFFlat
        With the L2 metric, trained. It is only read.
    X : array-like of shape (n_samples, n_features), default=None
        Vectors to index. If None, those that `index` holds, by their numbers, which
        must be 0 to ``index.ntotal - 1`` (not set with ``add_with_ids``).
    **params
        Parameters of the estimator. Unless given, `nlist` and `nprobe` are those of the
        index, and `metric` is 'sqeuclidean', as Faiss returns squared distances.

    Returns
    -------
    estimator : FlatL2Neighbors or IVFFlatNeighbors
        Fitted.

    Raises
    ------
    TypeError
        If the index is of another kind.
    ValueError
        If it has another metric, is not trained, or holds no vectors and X is None.

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
    if X is None:
        if index.ntotal == 0:
            raise ValueError("The index holds no vectors. Add some to it, or give X.")
        X = index.reconstruct_n(0, index.ntotal)
    params = {"metric": "sqeuclidean", **params}
    if kind != "IndexIVFFlat":
        return FlatL2Neighbors(**params).fit(X)
    params = {"nlist": index.nlist, "nprobe": index.nprobe, **params}
    centroids = np.array(index.quantizer.reconstruct_n(0, index.nlist))
    return IVFFlatNeighbors(**params)._fit_lists(X, centroids)
