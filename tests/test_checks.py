"""Bad input is refused, with the type and the words of scikit-learn's errors."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors

SEARCHES = pytest.mark.parametrize(
    "search",
    [
        "kneighbors",
        "kneighbors_graph",
        "radius_neighbors",
        "radius_neighbors_graph",
        "transform",
    ],
)


def with_one(value, dtype=np.float64):
    """Vectors of 4 features, one of the numbers replaced."""
    X = np.ones((3, 4), dtype)
    X[1, 2] = value
    return X


# Name: vectors, type of error, part of its message.
BAD_VECTORS = {
    "NaN": (with_one(np.nan), ValueError, "NaN"),
    "NaN float32": (with_one(np.nan, np.float32), ValueError, "NaN"),
    "NaN list": (with_one(np.nan).tolist(), ValueError, "NaN"),
    "inf": (with_one(np.inf), ValueError, "infinity"),
    "minus inf float32": (with_one(-np.inf, np.float32), ValueError, "infinity"),
    "1-D": (np.ones(4), ValueError, "Reshape your data"),
    "1-D list": ([1.0, 2.0], ValueError, "Reshape your data"),
    "3-D": (np.ones((2, 4, 4)), ValueError, "dim 3"),
    "scalar": (3.0, ValueError, "scalar"),
    "no rows": (np.ones((0, 4)), ValueError, r"0 sample\(s\) .* minimum of 1"),
    "no features": (np.ones((3, 0)), ValueError, "0 feature"),
    "sparse": (csr_matrix(np.eye(4)), TypeError, "[Ss]parse"),
    "strings": (np.array([["a"] * 4]), ValueError, "could not convert string"),
    "complex": (np.ones((3, 4), complex), ValueError, "Complex data not supported"),
    "dict": (np.array([[{}] * 4]), TypeError, "argument must be .* string.* number"),
}


@pytest.fixture(params=[np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=["flat", "lists"])
def index(request, dtype, rng):
    X = rng.standard_normal((50, 4)).astype(dtype)
    if request.param == "flat":
        return FlatL2Neighbors().fit(X)
    return IVFFlatNeighbors(nprobe=2, init=X[:5], max_iter=0).fit(X)


@pytest.mark.parametrize(
    ("X", "error", "message"), BAD_VECTORS.values(), ids=BAD_VECTORS.keys()
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
@pytest.mark.parametrize("estimator", [FlatL2Neighbors, IVFFlatNeighbors])
def test_bad_vectors_are_not_indexed(X, error, message, method, estimator):
    index = estimator()
    with pytest.raises(error, match=message):
        getattr(index, method)(X)
    assert not index.is_trained


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [bad for name, bad in BAD_VECTORS.items() if name != "no features"],
    ids=[name for name in BAD_VECTORS if name != "no features"],
)
@SEARCHES
def test_bad_queries_are_refused(X, error, message, search, index):
    with pytest.raises(error, match=message):
        getattr(index, search)(X)


@SEARCHES
@pytest.mark.parametrize("width", [1, 3, 5])
def test_queries_of_another_width_are_refused(width, search, index, dtype):
    name = type(index).__name__
    with pytest.raises(
        ValueError, match=f"X has {width} features, but {name} is expecting 4 features"
    ):
        getattr(index, search)(np.ones((3, width), dtype))


@pytest.mark.parametrize("place", [0, 17, 39])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_among_many_queries_is_found(value, place, index, dtype, rng):
    # C-contiguous and of the index's dtype: the path that skips scikit-learn's door.
    Q = rng.standard_normal((40, 4)).astype(dtype)
    Q[place, 3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        index.kneighbors(Q)


# -- names of features ---------------------------------------------------------------


@SEARCHES
def test_other_feature_names_are_refused(search):
    frame = pd.DataFrame(np.eye(4), columns=list("abcd"))
    index = FlatL2Neighbors(2).fit(frame)
    assert list(index.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(index, search)(frame.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="feature names should match"):
        index.partial_fit(frame[list("bacd")])


@SEARCHES
def test_missing_feature_names_warn(search):
    frame = pd.DataFrame(np.eye(4), columns=list("abcd"))
    index = FlatL2Neighbors(2).fit(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        getattr(index, search)(frame.to_numpy())


# -- arguments and parameters --------------------------------------------------------


@pytest.mark.parametrize(
    ("n_neighbors", "error", "message"),
    [
        (0, ValueError, "Expected n_neighbors > 0. Got 0"),
        (-1, ValueError, "Expected n_neighbors > 0. Got -1"),
        (2.5, TypeError, "n_neighbors does not take <class 'float'> value"),
        (2.0, TypeError, "n_neighbors does not take <class 'float'> value"),
        ("3", TypeError, "n_neighbors does not take <class 'str'> value"),
        (
            51,
            ValueError,
            "Expected n_neighbors <= n_samples_fit, but n_neighbors = 51, "
            "n_samples_fit = 50, n_samples = 2",
        ),
    ],
)
@pytest.mark.parametrize("search", ["kneighbors", "kneighbors_graph"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_bad_n_neighbors(n_neighbors, error, message, search, is_argument, index):
    argument = n_neighbors if is_argument else None
    if not is_argument:
        index.set_params(n_neighbors=n_neighbors)
    for queries in (np.ones((2, 4), np.float32), np.ones((2, 4)), [[1] * 4] * 2):
        with pytest.raises(error, match=message):
            getattr(index, search)(queries, argument)
    with pytest.raises(error, match=message.partition(" <=")[0]):
        getattr(index, search)(None, argument)


@pytest.mark.parametrize("search", ["kneighbors", "kneighbors_graph"])
def test_a_row_has_fewer_others_than_there_are_rows(search, index):
    message = (
        "Expected n_neighbors < n_samples_fit, but n_neighbors = 50, "
        "n_samples_fit = 50, n_samples = 50"
    )
    with pytest.raises(ValueError, match=message):
        getattr(index, search)(None, 50)
    assert index.kneighbors(None, 49, False).shape == (50, 49)
    assert index.kneighbors(np.ones((1, 4)), 50, False).shape == (1, 50)


@pytest.mark.parametrize("n_neighbors", [True, np.int8(1), np.uint64(1)], ids=repr)
def test_any_integer_is_a_number_of_neighbors(n_neighbors, index):
    assert index.kneighbors(None, n_neighbors, False).shape == (50, 1)


def test_fit_transform_needs_one_more_row_than_neighbors():
    assert FlatL2Neighbors(2).fit_transform(np.eye(3)).nnz == 9
    with pytest.raises(ValueError, match="Expected n_neighbors < n_samples_fit"):
        FlatL2Neighbors(3).fit_transform(np.eye(3))
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit"):
        FlatL2Neighbors(3).fit(np.eye(3)).transform(np.eye(3))


@pytest.mark.parametrize(
    ("radius", "error", "message"),
    [
        (-1e-9, ValueError, "radius"),
        (np.nan, ValueError, "radius"),
        ("1", TypeError, "radius must be a number"),
        ([1.0], TypeError, "radius must be a number"),
    ],
)
@pytest.mark.parametrize("search", ["radius_neighbors", "radius_neighbors_graph"])
@pytest.mark.parametrize("is_argument", [True, False])
def test_bad_radius(radius, error, message, search, is_argument, index):
    if not is_argument:
        index.set_params(radius=radius)
    for queries in (np.ones((2, 4)), None):
        with pytest.raises(error, match=message):
            getattr(index, search)(queries, radius if is_argument else None)


def test_sorting_without_distances_is_refused(index):
    with pytest.raises(ValueError, match="return_distance must be True"):
        index.radius_neighbors(None, 1.0, return_distance=False, sort_results=True)


@pytest.mark.parametrize("mode", ["blah", None, "Distance"])
def test_bad_mode(mode, index):
    message = 'must be one of "connectivity", or "distance" but got'
    for search in (index.kneighbors_graph, index.radius_neighbors_graph):
        with pytest.raises(ValueError, match=message):
            search(mode=mode)
    with pytest.raises(ValueError, match=message):
        index.set_params(mode=mode).transform(np.ones((2, 4)))


@SEARCHES
@pytest.mark.parametrize("device", ["cuda:x", "gpu"])
def test_a_device_that_is_not_there(device, search, index, rng):
    with pytest.raises(ValueError, match=f"device='{device}' is unknown"):
        getattr(index.set_params(device=device), search)(np.ones((2, 4)))
    with pytest.raises(ValueError, match=f"device='{device}' is unknown"):
        FlatL2Neighbors(device=device).fit(np.eye(4))


@SEARCHES
@pytest.mark.parametrize("n_jobs", [0, 2.5, "two"])
def test_bad_n_jobs(n_jobs, search, index, split_work):
    with pytest.raises((ValueError, TypeError), match="n_jobs"):
        getattr(index.set_params(n_jobs=n_jobs), search)(np.ones((2, 4)))
    with pytest.raises((ValueError, TypeError), match="n_jobs"):
        FlatL2Neighbors(n_jobs=n_jobs).fit(np.eye(4))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"n_neighbors": 0},
        {"n_neighbors": 2.5},
        {"n_neighbors": "auto"},
        {"radius": -1.0},
        {"radius": "1"},
        {"metric": "manhattan"},
        {"metric": None},
        {"mode": "blah"},
        {"device": 3},
        {"n_jobs": 1.5},
    ],
    ids=str,
)
def test_fit_validates_the_parameters(parameters, method):
    (name,) = parameters
    message = f"The '{name}' parameter of FlatL2Neighbors must be"
    with pytest.raises(ValueError, match=message):
        getattr(FlatL2Neighbors(**parameters), method)(np.eye(4))


@SEARCHES
@pytest.mark.parametrize("estimator", [FlatL2Neighbors, IVFFlatNeighbors])
def test_an_estimator_that_is_not_fitted(search, estimator):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(estimator(), search)(np.eye(4))


@pytest.mark.parametrize("estimator", [FlatL2Neighbors, IVFFlatNeighbors])
def test_nothing_to_look_at_before_fit(estimator):
    for call in (
        lambda index: index.reconstruct(0),
        lambda index: index.get_feature_names_out(),
    ):
        with pytest.raises(NotFittedError):
            call(estimator())


@pytest.mark.parametrize(
    "name", ["nlist_", "cluster_centers_", "list_sizes_", "imbalance_factor_"]
)
def test_attributes_of_the_lists_appear_with_the_fit(name):
    assert not hasattr(IVFFlatNeighbors(), name)
    assert hasattr(IVFFlatNeighbors().fit(np.eye(4)), name)
