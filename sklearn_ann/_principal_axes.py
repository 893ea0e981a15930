"""Which projection the codes of a flat index are made of, if any.

Along its leading principal axes a vector keeps most of its length in a few features.
Bounds from these exclude most rows, and codes of all features most of the others; how
many features are best depends on the data, and is estimated on a sample.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._layout import Projection

# Rows that the axes are fitted to, and how many of them are queries of the estimate.
_SAMPLE, _QUERIES = 2048, 64

# Numbers of axes to choose from, with the one of the tail; no more than half of the
# features. Fewer bytes of codes are read as fast as fewer features of them; the axes of
# more features take longer to find than most searches.
_WIDTHS = 32, 64, 96, 128
_FEWEST_BYTES, _MOST_FEATURES = 2**22, 4096

# Directions that are looked for beside those that are wanted, which are better for it;
# and the least squared length of a direction to the longest.
_OVERSAMPLES, _LEAST_SQUARE = 16, 1e-10

# The axes are shortened by so much: they are orthonormal up to 1e-7, and no projection
# may be longer than its vector.
_SHORTENED = 1e-5

# The cost of a search in products of 8-bit codes: of a row beside its products, of a
# feature of an axis for a query, of a row that the projection does not exclude and of
# each of its features. One query reads codes from memory, which takes as long as so
# many products for each. Measured with AVX-512; processors with slower products gain
# more from a projection.
_ROW, _AXIS_FEATURE, _LEFT, _LEFT_FEATURE, _READ = 24, 8, 24_000, 13, 12

# A search of many queries must not take longer than this part of one without.
_GAIN = 1.0

# Another projection is worth encoding all rows again if it is so much cheaper.
_MUCH_CHEAPER = 0.8

# Rows that give a query its first threshold, about.
_FIRST_ROWS = 4096

# For the estimate: neighbours of a query; a rank among the sample beside the first; and
# the least one, since distances are no power of the rank far below the first.
_NEIGHBORS, _FAR_RANK, _LEAST_RANK = 10, 16, 0.15


def no_projection(d):
    """The projection of width 0: codes are those of all features."""
    return Projection(axes=np.empty((d, 0), np.float32), middle=np.empty(0))


def choose_projection(X, center, unit):
    """The projection that makes searches of all rows of X cheapest, or none.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    center : ndarray of shape (d,), float64
    unit : float
        A power of two.

    Returns
    -------
    projection : Projection
        The same for the same rows.
    """
    n, d = X.shape
    widths = [width for width in _WIDTHS if 2 * width <= d <= _MOST_FEATURES]
    sample = _sample(X, center, unit)
    if not widths or n * d < _FEWEST_BYTES or sample is None:
        return no_projection(d)
    directions = _principal_directions(sample, widths[-1])
    images = sample @ directions.astype(np.float32)
    costs = _costs(sample, images, [0, *widths], n)
    batch, single = (costs / costs[:, :1])[:, 1:]
    total = np.where(batch <= _GAIN, batch + single, np.inf)
    best = int(np.argmin(total))
    if total[best] >= 2:
        return no_projection(d)
    return _projection(sample, directions, widths[best])


def is_outgrown(projection, X, center, unit):
    """Whether searches of all rows X would be much cheaper with another projection."""
    fresh = choose_projection(X, center, unit)
    if len(fresh.middle) == 0 or len(projection.middle) == 0:
        return len(fresh.middle) != len(projection.middle)
    sample = _sample(X, center, unit)
    then, now = (
        _costs(sample, sample @ kind.axes[:, :-1], [len(kind.middle)], len(X)).sum()
        for kind in (fresh, projection)
    )
    return then < _MUCH_CHEAPER * now


def makes_no_distance_longer(axes):
    """Whether no singular value of the axes exceeds 1, and the last one is zero."""
    axes = axes.astype(np.float64)
    if axes.size == 0 or not np.isfinite(axes).all():
        return axes.size == 0
    # Computed eigenvalues are off by much less than what the axes are shortened by.
    return np.linalg.eigvalsh(axes.T @ axes)[-1] <= 1 and not axes[:, -1].any()


def _sample(X, center, unit):
    """Some rows, centered, in units, or None if these are no measure of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        sample = (X[:: -(-len(X) // _SAMPLE)] - center) / unit
        sample = sample.astype(np.float32)
    return sample if 2.0**-20 < np.abs(sample).max() < 2.0**20 else None


def _principal_directions(sample, n_directions):
    """Orthonormal columns, those that keep the most of the squared lengths first."""
    # Subspace iteration (Halko, Martinsson and Tropp, 2011) on the matrix of products.
    gram = (sample.T @ sample).astype(np.float64)
    size = min(n_directions + _OVERSAMPLES, len(gram))
    basis = np.random.default_rng(0).standard_normal((len(gram), size))
    for _ in range(2):
        # Roundings of the first time are those of very different lengths.
        basis = _orthonormal(_orthonormal(gram @ basis))
    _, rotation = np.linalg.eigh(basis.T @ gram @ basis)
    return basis @ rotation[:, : -n_directions - 1 : -1]


def _orthonormal(columns):
    """Orthonormal columns with the same span; zeros for what is hardly in it.

    For so few columns a QR decomposition takes five times as long.
    """
    squares, rotation = np.linalg.eigh(columns.T @ columns)
    is_there = squares > _LEAST_SQUARE * squares[-1]
    factors = np.zeros(len(squares))
    factors[is_there] = 1 / np.sqrt(squares[is_there])
    return columns @ (rotation * factors)


def _projection(sample, directions, width):
    """The projection on the first directions, which are turned at random.

    Turned, no feature is much larger than the others, and codes lose less.
    """
    d, n_axes = len(directions), width - 1
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((n_axes, n_axes)))[0]
    axes = np.zeros((d, width), np.float32)
    axes[:, :n_axes] = directions[:, :n_axes] @ turn * (1 - _SHORTENED)
    images = (sample @ axes).astype(np.float64)
    images[:, n_axes] = _tails(sample, images[:, :n_axes])
    return Projection(axes=axes, middle=images.mean(axis=0))


def _tails(sample, images):
    """The lengths that projections lack."""
    kept = np.einsum("ij,ij->i", images, images)
    return np.sqrt(np.maximum(np.einsum("ij,ij->i", sample, sample) - kept, 0))


def _costs(sample, images, widths, n):
    """The cost of a query among n rows, in a batch and alone, for some widths."""
    d = sample.shape[1]
    queries = np.linspace(0, len(sample) - 1, _QUERIES).astype(np.int64)
    reach = _reach(_distances(sample, queries), n)
    # The threshold is that of the rows before: larger at first than in the end.
    earlier = 1 + max(0.0, np.log(n / _FIRST_ROWS))
    costs = np.empty((2, len(widths)))
    for nth, width in enumerate(widths):
        left = 0.0
        if width:
            n_left = _count_left(sample, images[:, : width - 1], queries, reach)
            left = n_left / len(queries) * n / len(sample) * earlier
            left = left * (_LEFT + d * _LEFT_FEATURE) + d * width * _AXIS_FEATURE
        products = n * (width or d)
        costs[:, nth] = products + n * _ROW + left, products * _READ + left
    return costs


def _count_left(sample, images, queries, reach):
    """How many rows the projection does not exclude, of all queries."""
    tails = _tails(sample, images)
    images = np.column_stack([images, tails])
    # Codes lose half a step at most in each feature, a step is a 127th of the largest,
    # and the largest of so many normal ones is about this.
    lost = np.linalg.norm(images, axis=1) * np.sqrt(2 * np.log(images.shape[1]))
    lost /= 127 * np.sqrt(12)
    lower = _distances(images, queries) - lost[queries, None] - lost
    # Without the queries themselves.
    return np.count_nonzero(lower <= reach[:, None]) - len(queries)


def _reach(distances, n):
    """The distance of the last neighbour of each query among all n rows."""
    nearest = np.partition(distances, (1, _FAR_RANK), axis=1)
    first, far = nearest[:, 1], nearest[:, _FAR_RANK]
    # Distances grow as a power of the rank, which may be less than 1: the sample lacks
    # most of the neighbours.
    rank = max(_LEAST_RANK, _NEIGHBORS * distances.shape[1] / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.nanmean(np.log(far / first)[first > 0]) / np.log(_FAR_RANK)
    return first * rank**power if np.isfinite(power) else first


def _distances(points, queries):
    """The distances of some of the points to all of them."""
    sqnorms = np.einsum("ij,ij->i", points, points)
    products = points[queries] @ points.T
    return np.sqrt(np.maximum(sqnorms[queries, None] + sqnorms - 2 * products, 0))
