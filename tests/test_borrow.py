"""Arrays that kernels borrow are there as long as they are used."""

import numpy as np
from numpy.testing import assert_array_equal

_SCRIPT = """
import sys
import numpy as np
from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, _scalar_quantizer
from sklearn_ann._principal_axes import _principal_directions, _projection, _sample


def project(X, center, unit):
    sample = _sample(X, center, unit)
    return _projection(sample, _principal_directions(sample, 32), 32)


rng = np.random.default_rng(0)
X, Q = rng.standard_normal((2000, 70)), rng.standard_normal((150, 70))
indexes = [
    FlatL2Neighbors(9, n_jobs=1).fit(X),
    IVFFlatNeighbors(9, nlist=5, nprobe=3, random_state=0, n_jobs=1).fit(X),
]
_scalar_quantizer.choose_projection = project
indexes.append(FlatL2Neighbors(9, n_jobs=1).fit(X))
answers = []
for index in indexes:
    for queries in (Q[:1], Q):
        answers += index.kneighbors(queries)
        answers += map(np.concatenate, index.radius_neighbors(queries, 10.0))
np.savez(sys.argv[1], *answers)
"""


def test_memory_that_is_free_is_not_read(run_script, tmp_path):
    found = []
    # The C library fills memory that is given back with these, if it is glibc.
    for value in ("0", "90", "165"):
        path = tmp_path / f"{value}.npz"
        run_script(_SCRIPT, path, MALLOC_PERTURB_=value)
        found.append(path)
    expected, *others = map(np.load, found)
    for other in others:
        for name in expected:
            assert_array_equal(other[name], expected[name])
