"""After `warm_up` nothing is compiled any more."""

_AFTER_WARM_UP = """
import sys
import warnings
import numpy as np
from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors, warm_up
warnings.simplefilter("error")
state = np.random.get_state()[1].copy()
warm_up()
assert (np.random.get_state()[1] == state).all()
from numba.core.dispatcher import Dispatcher

def count():
    dispatchers = {
        id(value): value
        for name, module in list(sys.modules.items())
        if name.startswith("sklearn_ann._cpu")
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    }
    return {
        value.py_func.__qualname__: [str(signature) for signature in value.signatures]
        for value in dispatchers.values()
    }

before = count()
n_before = sum(map(len, before.values()))
assert n_before > 30, n_before

rng = np.random.default_rng(0)
made = [
    lambda **kw: FlatL2Neighbors(**kw),
    lambda **kw: IVFFlatNeighbors(nlist=13, random_state=0, **kw),
    lambda **kw: IVFPQNeighbors(nlist=5, m=3, random_state=0, **kw),
    lambda **kw: IVFPQNeighbors(nbits=4, nlist=5, random_state=0, **kw),
    lambda **kw: IVFPQNeighbors(nbits=6, m=2, random_state=0, **kw),
    lambda **kw: IVFPQNeighbors(
        nlist=5, store_vectors=True, refine_factor=3, random_state=0, **kw
    ),
]
X = rng.standard_normal((2000, 11))
kinds = {"float32": X.astype("f4"), "float64": X, "int64": (9 * X).astype(int)}
for make in made:
    for kind, rows in kinds.items():
        for metric in ("euclidean", "cosine"):
            index = make(metric=metric, mode="distance").fit(rows[:1000])
            index.partial_fit(rows[1000:])
            for Q in (rows[:1], rows[:7], rows, rows[:3].tolist(), X[:9]):
                index.kneighbors(Q, 1)
                index.kneighbors(Q, 150)
                index.radius_neighbors(Q[:20], 0.5)
            index.kneighbors()
            index.transform(rows[:50])
            index.radius_neighbors_graph()
            index.reconstruct([3, 5])
            read_only = rows.copy()
            read_only.flags.writeable = False
            make(metric=metric, n_jobs=2).fit(read_only).kneighbors(read_only)
after = count()
new = {name: set(after[name]) - set(before[name]) for name in after}
print({name: signatures for name, signatures in new.items() if signatures})
"""


def test_nothing_is_compiled_after_a_warm_up(run_script):
    assert run_script(_AFTER_WARM_UP) == "{}"
