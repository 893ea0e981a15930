"""The oracle: slow, obvious NumPy in float64 that imports nothing of sklearn_ann."""

import numpy as np


def sqdists(q, X):
    """Squared distances of one vector to all rows of X."""
    difference = X.astype(np.float64) - q.astype(np.float64)
    return (difference**2).sum(axis=1)


def knn(Q, X, k):
    """Squared distances and row numbers of the k nearest, ties by row number."""
    found_sqdists, found_ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for i, q in enumerate(Q):
        all_sqdists = sqdists(q, X)
        found_ids[i] = np.argsort(all_sqdists, kind="stable")[:k]
        found_sqdists[i] = all_sqdists[found_ids[i]]
    return found_sqdists, found_ids


def knn_of_many(Q, X, k):
    """As `knn`, in a fraction of the time for data without extreme values.

    One matrix product finds the candidates. Its error is far below the margin, so the
    others are further away; the candidates are then measured as in `knn`.
    """
    X64 = X.astype(np.float64)
    sqnorms = (X64**2).sum(axis=1)
    found_sqdists, found_ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for i, q in enumerate(Q.astype(np.float64)):
        rough = sqnorms - 2 * (X64 @ q)
        margin = 1e-9 * (sqnorms.max() + q @ q)
        near = np.flatnonzero(rough <= np.partition(rough, k - 1)[k - 1] + margin)
        found_sqdists[i], order = (array[0] for array in knn(q[None], X[near], k))
        found_ids[i] = near[order]
    return found_sqdists, found_ids


def nearest_centroids(X, centroids):
    """Numbers of the nearest centroids, the first of equally near ones."""
    return np.array([sqdists(x, centroids).argmin() for x in X], np.int64)


def probes(q, centroids, sizes, nprobe, k):
    """The `nprobe` nearest lists, and further ones until they hold k rows."""
    nearest = np.argsort(sqdists(q, centroids), kind="stable")
    while nprobe < len(centroids) and sizes[nearest[:nprobe]].sum() < k:
        nprobe += 1
    return nearest[:nprobe]


def ivf_knn(Q, X, centroids, nprobe, k, decoded=None):
    """As `knn`, among the rows of the lists that each query probes.

    Distances are those to the rows of `decoded`, if they are given.
    """
    labels = nearest_centroids(X, centroids)
    X = X if decoded is None else decoded
    sizes = np.bincount(labels, minlength=len(centroids))
    found_sqdists, found_ids = np.empty((len(Q), k)), np.empty((len(Q), k), np.int64)
    for i, q in enumerate(Q):
        lists = probes(q, centroids, sizes, nprobe, k)
        rows = np.flatnonzero(np.isin(labels, lists))
        found_sqdists[i], order = (array[0] for array in knn(q[None], X[rows], k))
        found_ids[i] = rows[order]
    return found_sqdists, found_ids


def quantize(X, centroids, codebooks):
    """What each row's nearest centroid and nearest codewords add up to, in float64."""
    labels = nearest_centroids(X, centroids)
    decoded = centroids[labels].astype(np.float64)
    dsub = codebooks.shape[2]
    for j, codewords in enumerate(codebooks.astype(np.float64)):
        part = slice(j * dsub, min((j + 1) * dsub, X.shape[1]))
        codewords = codewords[:, : part.stop - part.start]
        for x, y in zip(X.astype(np.float64), decoded, strict=True):
            y[part] += codewords[sqdists(x[part] - y[part], codewords).argmin()]
    return decoded


def ivf_radius(Q, X, centroids, nprobe, sqradius):
    """As `radius`, among the rows of the lists that each query probes."""
    labels = nearest_centroids(X, centroids)
    found = []
    for q, (hit_sqdists, ids) in zip(Q, radius(Q, X, sqradius), strict=True):
        is_probed = np.isin(labels[ids], probes(q, centroids, labels, nprobe, 0))
        found.append((hit_sqdists[is_probed], ids[is_probed]))
    return found


def lloyd(X, centroids, max_iter):
    """k-means from given centroids, as long as no cell is empty."""
    X = X.astype(np.float64)
    for _ in range(max_iter):
        labels = nearest_centroids(X, centroids)
        cells = [X[labels == c] for c in range(len(centroids))]
        centroids = np.array([cell.mean(axis=0) for cell in cells])
    return centroids


def inertia(X, centroids):
    """The sum of the squared distances of the rows to their nearest centroids."""
    return sum(sqdists(x, centroids).min() for x in X)


def radius(Q, X, sqradius):
    """For each query, squared distances and row numbers of the rows within a radius."""
    found = []
    for q in Q:
        all_sqdists = sqdists(q, X)
        ids = np.flatnonzero(all_sqdists <= sqradius)
        found.append((all_sqdists[ids], ids))
    return found


def cosine_distances(Q, X):
    """One minus the cosine of the angle; 1 where a vector has no direction."""
    Q, X = (unit_vectors(vectors) for vectors in (Q, X))
    return 1 - Q @ X.T


def unit_vectors(X):
    """The rows of X with length 1, zero rows unchanged."""
    X = X.astype(np.float64)
    largest = np.abs(X).max(axis=1, keepdims=True)
    X = X / np.where(largest > 0, largest, 1)
    lengths = np.sqrt((X**2).sum(axis=1, keepdims=True))
    return X / np.where(lengths > 0, lengths, 1)


def without_self(sqdists, ids):
    """scikit-learn's rule for the k + 1 neighbours of each indexed row.

    The row itself goes, or the first of its list where it is not in the list.
    """
    kept_sqdists, kept_ids = [], []
    for i, (row_sqdists, row_ids) in enumerate(zip(sqdists, ids, strict=True)):
        gone = list(row_ids).index(i) if i in row_ids else 0
        kept_sqdists.append(np.delete(row_sqdists, gone))
        kept_ids.append(np.delete(row_ids, gone))
    return np.array(kept_sqdists), np.array(kept_ids)


def assert_same_neighbors(found, expected, Q, X):
    """Equal to the last bit where sums are exact, else up to their rounding.

    Where row numbers differ, two different vectors must be at almost the same distance.
    """
    (found_sqdists, found_ids), (expected_sqdists, expected_ids) = found, expected
    assert found_ids.dtype == np.int64
    assert found_sqdists.dtype == np.float64
    if _sums_are_exact(Q, X):
        np.testing.assert_array_equal(found_sqdists, expected_sqdists)
        np.testing.assert_array_equal(found_ids, expected_ids)
    np.testing.assert_allclose(found_sqdists, expected_sqdists, rtol=1e-12)
    for sqdists_of_one, ids in zip(found_sqdists, found_ids, strict=True):
        assert len(np.unique(ids)) == len(ids)
        np.testing.assert_array_equal(
            np.lexsort((ids, sqdists_of_one)), range(len(ids))
        )
    for i, j in np.argwhere(found_ids != expected_ids):
        row, expected_row = found_ids[i, j], expected_ids[i, j]
        assert not np.array_equal(X[row], X[expected_row]), "equal rows out of order"
        sqdist = sqdists(Q[i], X[[row]])[0]
        np.testing.assert_allclose(sqdist, expected_sqdists[i, j], rtol=1e-12)


def _sums_are_exact(*arrays):
    """Whether float64 holds all sums of squared differences without rounding."""
    if not all(np.array_equal(array, np.rint(array)) for array in arrays):
        return False
    largest = max(float(np.abs(array).max()) for array in arrays)
    return 2 * largest < (2**53 / arrays[0].shape[1]) ** 0.5
