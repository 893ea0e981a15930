"""Every tier of instructions gives the same answers, to the last bit."""

import pickle

import llvmlite.binding
import numba
import numpy as np
import pytest
import reference
import vector_kinds
from numpy.testing import assert_array_equal

from sklearn_ann import FlatL2Neighbors, IVFPQNeighbors
from sklearn_ann._cpu import simd_tier

# The features that LLVM is told about, beside those of its generic processor; the best
# tier comes last.
_AVX2 = {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt"}
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
TIERS = {
    "portable": set(),
    "avx2": _AVX2,
    "avx512bw": _AVX2 | _AVX512,
    "avxvnni": _AVX2 | {"avxvnni"},
    "avx512vnni": _AVX2 | _AVX512 | {"avx512vnni"},
}

_SCRIPT = """
import sys
import numpy as np
from sklearn_ann import FlatL2Neighbors, _scalar_quantizer
from sklearn_ann._cpu import simd_tier
from sklearn_ann._layout import Projection
from sklearn_ann._principal_axes import no_projection


def some_projection(X, *_):
    rng, d = np.random.default_rng(0), X.shape[1]
    axes = np.zeros((d, 32), np.float32)
    axes[:, :-1] = np.linalg.qr(rng.standard_normal((d, 31)))[0] * (1 - 1e-5)
    return Projection(axes, np.zeros(32))


def search(X, Q, choose_projection):
    _scalar_quantizer.choose_projection = choose_projection
    return FlatL2Neighbors(n_jobs=1).fit(X).kneighbors(Q, 10)


answers = {}
with np.load(sys.argv[1]) as data:
    for name in {key[:-2] for key in data}:
        X, Q = data[f"{name}/X"], data[f"{name}/Q"]
        found = search(X, Q, lambda X, *_: no_projection(X.shape[1]))
        answers[f"{name}/distances"], answers[f"{name}/ids"] = found
        if X.shape[1] >= 64:
            others = search(X, Q, some_projection)
            assert all(map(np.array_equal, found, others)), name
np.savez(sys.argv[2], **answers)
print(simd_tier())
"""


def make_wide(rng, d):
    """Vectors whose codes are as large as codes get: sums come near 32 bits."""
    rows = np.where(rng.random((74, d)) < 0.001, -1.0, 1.0).astype(np.float32)
    rows[::2] *= -1
    return rows[:70].copy(), rows[70:].copy()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    kinds = ["normal", "bytes_", "bits", "many_scales", "outlier_queries"]
    sets = {
        f"{kind}{d}": vector_kinds.make(
            getattr(vector_kinds, kind), np.float32, rng, 500, 13, d
        )
        for kind in kinds
        for d in (3, 64, 101)
    }
    # Beyond 66000 features the products of the largest codes would overflow.
    return sets | {f"wide{d}": make_wide(rng, d) for d in (66000, 140000)}


@pytest.fixture(scope="module")
def answers(data):
    return {
        name: FlatL2Neighbors(n_jobs=1).fit(X).kneighbors(Q, 10)
        for name, (X, Q) in data.items()
    }


def host_features():
    features = llvmlite.binding.get_host_cpu_features()
    return {name for name, is_there in features.items() if is_there}


def targeted_features():
    """What this process compiles for: the processor, unless the environment says."""
    chosen = numba.config.CPU_FEATURES
    if chosen is None:
        return host_features()
    return {name[1:] for name in chosen.split(",") if name.startswith("+")}


def test_this_process_answers_as_the_oracle(data, answers):
    for name, (X, Q) in data.items():
        distances, ids = answers[name]
        sqdists, _ = reference.knn(Q, X, 10)
        np.testing.assert_allclose(distances**2, sqdists, rtol=1e-12)
        found = FlatL2Neighbors(metric="sqeuclidean").fit(X).kneighbors(Q, 10)
        assert_array_equal(found[1], ids)
        reference.assert_same_neighbors(found, reference.knn(Q, X, 10), Q, X)


def test_this_process_uses_the_best_tier_it_may():
    features = targeted_features()
    supported = [name for name, needs in TIERS.items() if needs <= features]
    assert simd_tier() == supported[-1]


def run_on_tier(tier, run_script, script, *args):
    """Run a script with the instructions of this tier and no others."""
    if not TIERS[tier] <= host_features():
        pytest.skip(f"the processor lacks {sorted(TIERS[tier] - host_features())}")
    features = ",".join(f"+{name}" for name in sorted(TIERS[tier]))
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    assert run_script(script, *args, **environment) == tier


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_answers_alike(tier, data, answers, run_script, tmp_path):
    arrays = {}
    for name, (X, Q) in data.items():
        arrays |= {f"{name}/X": X, f"{name}/Q": Q}
    np.savez(tmp_path / "data.npz", **arrays)
    run_on_tier(
        tier, run_script, _SCRIPT, tmp_path / "data.npz", tmp_path / "answers.npz"
    )
    with np.load(tmp_path / "answers.npz") as found:
        for name, (distances, ids) in answers.items():
            assert_array_equal(found[f"{name}/ids"], ids)
            assert_array_equal(found[f"{name}/distances"], distances)


_SCRIPT_OF_CODES = """
import pickle
import sys
import numpy as np
from sklearn_ann._cpu import simd_tier

with open(sys.argv[1], "rb") as file:
    indexes, Q = pickle.load(file)
answers = {}
for name, index in indexes.items():
    for nq in (1, len(Q)):
        found = index.kneighbors(Q[:nq], 10)
        answers[f"{name}/{nq}/distances"], answers[f"{name}/{nq}/ids"] = found
np.savez(sys.argv[2], **answers)
print(simd_tier())
"""


@pytest.fixture(scope="module")
def code_indexes():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((3000, 300)).astype(np.float32)
    # Parts in pairs and with one left over, a panel and many, sums near 16 bits.
    sizes = [(1, 8), (7, 8), (300, 8), (2, 4), (7, 4), (300, 4), (5, 6)]
    indexes = {
        f"{m}x{nbits}": IVFPQNeighbors(
            nlist=12, nprobe=5, m=m, nbits=nbits, max_iter=2, random_state=0, n_jobs=1
        ).fit(X)
        for m, nbits in sizes
    }
    return indexes, rng.standard_normal((23, 300)).astype(np.float32)


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_finds_the_same_among_codes(
    tier, code_indexes, run_script, tmp_path
):
    (tmp_path / "indexes").write_bytes(pickle.dumps(code_indexes))
    files = tmp_path / "indexes", tmp_path / "answers.npz"
    run_on_tier(tier, run_script, _SCRIPT_OF_CODES, *files)
    indexes, Q = code_indexes
    with np.load(tmp_path / "answers.npz") as found:
        for name, index in indexes.items():
            for nq in (1, len(Q)):
                distances, ids = index.kneighbors(Q[:nq], 10)
                assert_array_equal(found[f"{name}/{nq}/ids"], ids)
                assert_array_equal(found[f"{name}/{nq}/distances"], distances)
