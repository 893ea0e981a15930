"""Which projection the codes of a flat index are made of, if any.

Along its leading principal axes a vector keeps most of its length in a few features.
Bounds from these exclude most rows, and codes of all features most of the others; how
many features are best depends on the data, and is estimated on a sample.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
# feature of an axis for a query, of a row that the projection does not exclude, and of
# a neighbour, since the rows of the first threshold are not excluded either. One query
# reads codes from memory, which takes as long as so many products for each. Measured
# with AVX-512; processors with slower products gain more from a projection.
_ROW, _AXIS_FEATURE, _LEFT, _NEIGHBOR, _READ = 24, 12, 3_000, 100_000, 15

# A search of many queries must not take longer than this part of one without.
_GAIN = 1.0

# Axes take as long to find as so many products for each pair of features.
_AXES_COST = 2**16

# Another projection is worth encoding all rows again if it is so much cheaper.
_MUCH_CHEAPER = 0.8

# Rows that give a query its first threshold, about.
_FIRST_ROWS = 4096

# For the estimate: the least number of neighbours, because the default of `n_neighbors`
# is 5 and searches often ask for more; a rank among the sample beside the first; and
# the least one, since distances are no power of the rank far below the first.
_FEWEST_NEIGHBORS, _FAR_RANK, _LEAST_RANK = 10, 16, 0.15


class Searches(NamedTuple):
    """What is known of the searches to come."""

    share_read: float  # the part of the rows that each reads, about; below 1 in lists
    n_neighbors: int


def no_projection(d):
    """The projection of width 0: codes are those of all features."""
    return Projection(axes=np.empty((d, 0), np.float32), middle=np.empty(0))


def choose_projection(X, center, unit, searches):
    """The projection that makes searches of the rows of X cheapest, or none.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    center : ndarray of shape (d,), float64
    unit : float
        A power of two.
    searches : Searches or None
        Those to come; None for no projection.

    Returns
    -------
    projection : Projection
        The same for the same rows and searches.
    """
    n, d = X.shape
    widths = [width for width in _WIDTHS if 2 * width <= d <= _MOST_FEATURES]
    if searches is None or not widths or n * d < _FEWEST_BYTES:
        return no_projection(d)
    n_products = n * d * searches.share_read
    sample = _sample(X, center, unit)
    # The rows of the first threshold alone may cost more than all products.
    if n_products < searches.n_neighbors * _NEIGHBOR or sample is None:
        return no_projection(d)
    directions = _principal_directions(sample, widths[-1])
    images = sample @ directions.astype(np.float32)
    costs = _costs(sample, images, [0, *widths], n, searches)
    batch, single = (costs / costs[:, :1])[:, 1:]
    total = np.where(batch <= _GAIN, batch + single, np.inf)
    best = int(np.argmin(total))
    if total[best] >= 2:
        return no_projection(d)
    return _projection(sample, directions, widths[best])


def training_projection(X, center, unit, n_products):
    """A projection for many searches of a few centroids by rows like X, or none.

    A row whose nearest centroid is known to be among the nearest ones excludes nearly
    all others by a few axes. They pay unless it takes longer to find them.

    Parameters
    ----------
    X, center, unit
        As in ``choose_projection``.
    n_products : int
        Products of features that the searches would take without it.

    Returns
    -------
    projection : Projection
        The same for the same rows.
    """
    d, width = X.shape[1], _WIDTHS[0]
    is_short = 2 * width <= d <= _MOST_FEATURES
    if not is_short or n_products < _AXES_COST * d * d:
        return no_projection(d)
    sample = _sample(X, center, unit)
    if sample is None:
        return no_projection(d)
    return _projection(sample, _principal_directions(sample, width), width)


def is_outgrown(projection, X, center, unit, searches):
    """Whether searches of the rows X would be much cheaper with another projection."""
    fresh = choose_projection(X, center, unit, searches)
    if len(fresh.middle) == 0 or len(projection.middle) == 0:
        return len(fresh.middle) != len(projection.middle)
    sample = _sample(X, center, unit)
    scale = len(X), searches
    then, now = (
        _costs(sample, sample @ kind.axes[:, :-1], [len(kind.middle)], *scale).sum()
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


def _costs(sample, images, widths, n, searches):
    """The cost of a query among n rows, in a batch and alone, for some widths."""
    d, n_read = sample.shape[1], n * searches.share_read
    k = max(searches.n_neighbors, _FEWEST_NEIGHBORS)
    queries = np.linspace(0, len(sample) - 1, _QUERIES).astype(np.int64)
    reach = _reach(_distances(sample, queries), n, k)
    # The threshold is that of the rows before: larger at first than in the end.
    earlier = 1 + max(0.0, np.log(n_read / _FIRST_ROWS))
    costs = np.empty((2, len(widths)))
    for nth, width in enumerate(widths):
        left = 0.0
        if width:
            n_left = _count_left(sample, images[:, : width - 1], queries, reach)
            n_left *= n / len(sample) / len(queries) * earlier
            left = n_left * _LEFT + k * _NEIGHBOR + d * width * _AXIS_FEATURE
        products = n_read * (width or d)
        costs[:, nth] = products + n_read * _ROW + left, products * _READ + left
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


def _reach(distances, n, k):
    """The distance of the k-th neighbour of each query among all n rows."""
    n_sample = distances.shape[1]
    # On average the logarithm of the r-th smallest of many numbers is that of r - 1/2.
    rank = (k - 0.5) * n_sample / n
    if rank >= 0.5:
        rank = min(rank + 0.5, n_sample - 1)
        before, after = int(rank), math.ceil(rank)
        nearest = np.partition(distances, (before, after), axis=1)
        step = nearest[:, after] - nearest[:, before]
        return nearest[:, before] + (rank - before) * step
    # The sample lacks most of the neighbours. Distances grow as a power of the rank,
    # and the logarithm of a first one is lower by Euler's constant.
    nearest = np.partition(distances, (1, _FAR_RANK), axis=1)
    first, far = nearest[:, 1], nearest[:, _FAR_RANK]
    rank = max(_LEAST_RANK, rank * np.exp(np.euler_gamma))
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.nanmean(np.log(far / first)[first > 0])
    power /= np.sum(1 / np.arange(1, _FAR_RANK))
    return first * rank**power if np.isfinite(power) else first


def _distances(points, queries):
    """The distances of some of the points to all of them."""
    sqnorms = np.einsum("ij,ij->i", points, points)
    products = points[queries] @ points.T
    return np.sqrt(np.maximum(sqnorms[queries, None] + sqnorms - 2 * products, 0))
