"""From an index of Faiss to an estimator: the same lists, the same neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_ann._backend import get_backend
from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors
from sklearn_ann._ivf_pq import IVFPQNeighbors
from sklearn_ann._parallel import count_threads
from sklearn_ann._product_quantizer import empty_pq_index, pair_codes, place_codes
from sklearn_ann._scalar_quantizer import build_flat_index
from sklearn_ann._sklearn import validate_parameters
from sklearn_ann._storage import GrowingArrays
from sklearn_ann._typing import Vectors
from sklearn_ann._validation import validate_codebooks

_METRIC_L2 = 1  # faiss.METRIC_L2

# Parameters of an estimator that say what an index is trained to.
_TRAINED = "nlist", "init", "max_iter", "m", "nbits", "codebooks"


def from_faiss(
    index: Any, X: Vectors | None = None, **params: Any
) -> FlatL2Neighbors | IVFFlatNeighbors | IVFPQNeighbors:
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
        Parameters of the estimator, except for `nlist`, `init`, `max_iter`, `m`,
        `nbits` and `codebooks`, which come from the index. So does `nprobe` unless it
        is given. `metric` is 'sqeuclidean' by default, because Faiss returns squared
        distances.

    Returns
    -------
    estimator : FlatL2Neighbors, IVFFlatNeighbors or IVFPQNeighbors
        Fitted. The centroids of the index are its `init`, with ``max_iter=0``, and the
        codebooks its `codebooks`, so that another `fit`, or that of a clone, puts the
        new rows into the same lists. An estimator that has taken over codes has no
        `reconstruction_error_`.

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
    for name in _TRAINED:
        if name in params:
            raise TypeError(f"{name} comes from the index and cannot be given.")
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
    centroids = np.array(index.quantizer.reconstruct_n(0, index.nlist))
    _check_finite(centroids, "centroids")
    params = {"nprobe": index.nprobe, **params}
    params |= {"nlist": index.nlist, "init": centroids, "max_iter": 0}
    if kind == "IndexIVFFlat":
        return IVFFlatNeighbors(**params).fit(_vectors(index) if X is None else X)
    return _from_ivf_pq(index, X, params)


_KINDS = {
    "IndexFlatL2": FlatL2Neighbors,
    "IndexFlat": FlatL2Neighbors,
    "IndexIVFFlat": IVFFlatNeighbors,
    "IndexIVFPQ": IVFPQNeighbors,
}


def _from_ivf_pq(index, X, params):
    pq = index.pq
    if not index.by_residual:
        raise ValueError("The codes must be those of residuals: by_residual is False.")
    if not 4 <= pq.nbits <= 8:
        raise ValueError(f"The codes have {pq.nbits} bits; 4 to 8 can be searched.")
    codebooks = _as_array(pq.centroids.data(), pq.M * pq.ksub * pq.dsub).copy()
    codebooks = codebooks.reshape(pq.M, pq.ksub, pq.dsub)
    _check_finite(codebooks, "codewords")
    estimator = IVFPQNeighbors(m=pq.M, nbits=pq.nbits, codebooks=codebooks, **params)
    if X is not None:
        return estimator.fit(X)
    if estimator.store_vectors:
        raise ValueError("The index holds codes only: give the vectors to store as X.")
    if estimator.nprobe == "auto":
        raise ValueError(
            "nprobe='auto' is chosen by the recall of searches, and the index holds "
            "codes only: give the vectors as X, or nprobe as a number."
        )
    validate_parameters(estimator)
    codebooks = validate_codebooks(codebooks, index.d, estimator.m, pq.nbits)
    n_threads = count_threads(estimator.n_jobs, index.ntotal * pq.code_size)
    return estimator._adopt(
        _index_of_codes(index, estimator.init.copy(), codebooks, n_threads),
        n_features_in_=index.d,
        effective_metric_=estimator.metric,
        n_iter_=0,
        codebooks_=codebooks,
        nprobe_=min(estimator.nprobe, index.nlist),
        refine_factor_=1,
        recall_=np.nan,
        recall_interval_=(np.nan, np.nan),
        calibration_ids_=None,
        calibration_queries_=None,
    )


def _index_of_codes(index, centroids, codebooks, n_threads):
    """The IVFPQIndex with the lists and codes of an index of Faiss."""
    # Codes are placed on the host, whatever the device of the estimator.
    backend = get_backend("cpu")
    labels = np.empty(index.ntotal, np.int64)
    codes = np.empty((index.ntotal, index.pq.code_size), np.uint8)
    for label, ids in enumerate(_ids(index)):
        labels[ids] = label
        size = len(ids) * index.pq.code_size
        part = _as_array(index.invlists.get_codes(label), size)
        codes[ids] = part.reshape(-1, index.pq.code_size)
    codes = _unpack(codes, index.pq)
    coarse = build_flat_index(centroids, backend, n_threads)
    empty = empty_pq_index(coarse, codebooks, index.pq.nbits, centroids.dtype)
    return place_codes(
        empty,
        pair_codes(codes) if empty.is_paired else codes,
        labels,
        centroids[:0],
        GrowingArrays(),
        backend,
        n_threads,
    )


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
