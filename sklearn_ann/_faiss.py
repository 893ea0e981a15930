"""From an index of Faiss to an estimator: the same lists, the same neighbours."""

from __future__ import annotations

import numpy as np

from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors
from sklearn_ann._ivf_pq import IVFPQNeighbors

_METRIC_L2 = 1  # faiss.METRIC_L2


def from_faiss(index, X=None, **params):
    """Make an estimator of an index of Faiss.

    Nothing is trained: the estimator has the centroids of the index, and its codebooks,
    so that its lists are the same, and with them its neighbours for every `nprobe`.
    (Faiss measures in float32: a row halfway between two centroids may be in the other
    list there.)

    Parameters
    ----------
    index : faiss.IndexFlatL2, faiss.IndexIVFFlat or faiss.IndexIVFPQ
        With the L2 metric, trained. It is only read.
    X : array-like of shape (n_samples, n_features), default=None
        Vectors to index. If None, those that `index` holds, by their numbers, which
        must be 0 to ``index.ntotal - 1`` (not others, set with ``add_with_ids``). Of an
        `IndexIVFPQ` these are its codes, in its lists; `store_vectors` needs X.
    **params
        Parameters of the estimator but `nlist`, `m` and `nbits`, which are those of the
        index. Unless given, so is `nprobe`, and `metric` is 'sqeuclidean', as Faiss
        returns squared distances.

    Returns
    -------
    estimator : FlatL2Neighbors, IVFFlatNeighbors or IVFPQNeighbors
        Fitted. Codes that are taken over leave it without `reconstruction_error_`.

    Raises
    ------
    TypeError
        If the index is of another kind.
    ValueError
        If it has another metric, is not trained, or holds no vectors, or vectors with
        other numbers, and X is None; if it is an `IndexIVFPQ` with codes of other sizes
        than 4 to 8 bits, or not of residuals.

    Examples
    --------
    >>> import faiss  # doctest: +SKIP
    >>> index = faiss.read_index("sentences.faiss")  # doctest: +SKIP
    >>> estimator = from_faiss(index, n_neighbors=4)  # doctest: +SKIP
    """
    kind = type(index).__name__
    if kind == "IndexPreTransform":
        raise TypeError(
            "An IndexPreTransform transforms vectors before it indexes them. Give "
            "faiss.downcast_index(index.index), and transform queries as it does."
        )
    if kind not in _KINDS:
        raise TypeError(
            f"Cannot make an estimator of {kind}. Give an IndexFlatL2, an IndexIVFFlat "
            "or an IndexIVFPQ; faiss.downcast_index tells what an index is."
        )
    if index.metric_type != _METRIC_L2:
        raise ValueError(
            "The index must have the L2 metric. Search another one in Faiss."
        )
    if not index.is_trained:
        raise ValueError("The index is not trained: call its train method first.")
    for name in ("nlist", "m", "nbits"):
        if name in params:
            raise TypeError(f"{name} is that of the index and cannot be given.")
    if params.get("metric") == "cosine":
        raise ValueError(
            "metric='cosine' needs centroids of normalised vectors: fit "
            f"{_KINDS[kind].__name__}, or make an index of normalised vectors."
        )
    if X is None:
        _check_numbers(index, kind)
    params = {"metric": "sqeuclidean", **params}
    if kind in ("IndexFlatL2", "IndexFlat"):
        return FlatL2Neighbors(**params).fit(_vectors(index) if X is None else X)
    params = {"nlist": index.nlist, "nprobe": index.nprobe, **params}
    centroids = np.array(index.quantizer.reconstruct_n(0, index.nlist))
    _check_finite(centroids, "centroids")
    if kind == "IndexIVFFlat":
        X = _vectors(index) if X is None else X
        return IVFFlatNeighbors(**params)._fit_lists(X, centroids)
    return _from_ivf_pq(index, X, centroids, params)


_KINDS = {
    "IndexFlatL2": FlatL2Neighbors,
    "IndexFlat": FlatL2Neighbors,
    "IndexIVFFlat": IVFFlatNeighbors,
    "IndexIVFPQ": IVFPQNeighbors,
}


def _from_ivf_pq(index, X, centroids, params):
    pq = index.pq
    if not index.by_residual:
        raise ValueError("The codes must be those of residuals: by_residual is False.")
    if not 4 <= pq.nbits <= 8:
        raise ValueError(f"The codes have {pq.nbits} bits; 4 to 8 can be searched.")
    codebooks = _as_array(pq.centroids.data(), pq.M * pq.ksub * pq.dsub).copy()
    codebooks = codebooks.reshape(pq.M, pq.ksub, pq.dsub)
    _check_finite(codebooks, "codewords")
    estimator = IVFPQNeighbors(m=pq.M, nbits=pq.nbits, **params)
    if X is not None:
        return estimator._fit_lists(X, centroids, codebooks)
    if estimator.store_vectors:
        raise ValueError("The index holds codes only: give the vectors to store as X.")
    labels = np.empty(index.ntotal, np.int64)
    codes = np.empty((index.ntotal, pq.code_size), np.uint8)
    for label, ids in enumerate(_ids(index)):
        labels[ids] = label
        size = len(ids) * pq.code_size
        part = _as_array(index.invlists.get_codes(label), size)
        codes[ids] = part.reshape(-1, pq.code_size)
    return estimator._fit_codes(centroids, codebooks, labels, _unpack(codes, pq))


def _unpack(codes, pq):
    """One code to a byte, of codes that follow each other bit by bit."""
    if pq.nbits == 8:
        return codes
    bits = np.unpackbits(codes, axis=1, count=pq.M * pq.nbits, bitorder="little")
    bits = bits.reshape(len(codes), pq.M, pq.nbits)
    return np.packbits(bits, axis=2, bitorder="little")[:, :, 0]


def _check_numbers(index, kind):
    """The vectors of an index can be had by their numbers, which have no gaps."""
    if index.ntotal == 0:
        raise ValueError("The index holds no vectors. Add some to it, or give X.")
    if not kind.startswith("IndexIVF"):
        return
    ids = np.sort(np.concatenate(_ids(index)))
    if not np.array_equal(ids, np.arange(index.ntotal)):
        raise ValueError(
            "The vectors of the index are not numbered from 0 to ntotal - 1 "
            "(add_with_ids, or remove_ids?). Give them as X, in the order of "
            "the row numbers that they are to have."
        )


def _check_finite(array, what):
    if not np.isfinite(array).all():
        raise ValueError(f"The {what} of the index are not finite: train it again.")


def _vectors(index):
    return index.reconstruct_n(0, index.ntotal)


def _ids(index):
    """The numbers of the rows of each list."""
    lists = index.invlists
    return [
        _as_array(lists.get_ids(label), lists.list_size(label))
        for label in range(index.nlist)
    ]


def _as_array(pointer, size):
    import faiss

    return faiss.rev_swig_ptr(pointer, size)
