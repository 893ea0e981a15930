"""Search of product-quantized rows: IVFPQNeighbors beside Faiss.

Speed and agreement are those of one index that Faiss trained and filled. In the curve
and in training each peer trains for itself.
"""

from _harness import TIERS, PeerProcess, faiss_index, on_each_blas
from _measure import Case, Contender, installed, trained

SECTIONS = "speed", "curve", "agreement", "training"
NLISTS = {"sift": 1024, "sentences": 50, "fashion-mnist": 256, "tiny": 16}
NPROBES = {"sift": [1, 2, 4, 8, 16, 32, 64], "sentences": [1, 4, 10]}
NPROBES |= {"fashion-mnist": [1, 4, 16], "tiny": [1, 4]}

# Parts of a row, each with a code of 8 bits: at equal codes, and in the curve.
PARTS = {"sift": [8, 16, 32], "sentences": [8, 96], "fashion-mnist": [28, 98]}
CURVE_PARTS = {"sift": [16, 32, 64], "sentences": [96], "fashion-mnist": [98]}
PARTS["tiny"] = CURVE_PARTS["tiny"] = [4]

OURS = PeerProcess("Ours", {"estimator": "IVFPQNeighbors"})
FAISSES = on_each_blas("Faiss IVFPQ", "Faiss")
FAST_SCAN = "Faiss FastScan"
RIVALS = {"Faiss IVFPQ": [*FAISSES], FAST_SCAN: [FAST_SCAN]}


def key(nlist, m):
    """How Faiss names such an index."""
    return f"IVF{nlist},PQ{m}"


def cases(run):
    """All, as far as there are files; none without Faiss."""
    for case in training_cases(run, PARTS) if installed(FAISSES) else ():
        yield run.once(tuple(case.about.values()), _make_case, run, case)


def _make_case(run, case):
    centroids, index = trained(run, case, OURS, key(**case.sizes))
    return case._replace(arrays={"centroids": centroids, "index": index})


def training_cases(run, names=("sift", "sentences", "tiny")):
    for data in run.data_sets(names):
        for m in PARTS[data.name]:
            yield Case(data, {"nlist": NLISTS[data.name], "m": m})


def curve_cases(run):
    for data in run.data_sets(NLISTS):
        yield Case(data, {"nlist": NLISTS[data.name]})


def peers(case):
    """FastScan has the same centroids and as many bytes, in twice as many codes."""
    found = {"ours": OURS, **FAISSES}
    if (case.data.name, case.sizes["m"]) == ("sift", 16):
        found["ours, portable"] = OURS._replace(environment=TIERS["portable"])
    fast_scan = f"IVF{case.sizes['nlist']},PQ{2 * case.sizes['m']}x4fs"
    return {**found, FAST_SCAN: faiss_index(fast_scan)}


def batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    yield from [(1, 1), (1000, 2)]
    if (*case.about.values(), nprobe) == ("sift", 1024, 16, 16):
        yield 1000, 1


def contenders(case):
    """Codes as Faiss writes them: of 8 bits unless they say x4."""
    d, nlist = case.data.X.shape[1], case.sizes["nlist"]
    lists, parts, pairs = f"IVF{nlist}", CURVE_PARTS[case.data.name], d // 2
    for m in parts:
        yield _ours(f"PQ{m}", nlist=nlist, m=m)
        yield _refined("Faiss IVFPQ, RFlat", f"PQ{m}", f"{lists},PQ{m}")
    yield _ours(f"PQ{pairs}x4", nlist=nlist, m=pairs, nbits=4)
    codes = f"PQ{pairs}x4fs"
    yield _refined("Faiss FastScan, RFlat", codes, f"{lists},{codes}")
    codes = f"PQ{2 * parts[0]}x4fs"
    yield Contender(FAST_SCAN, faiss_index(f"{lists},{codes}"), codes=codes)
    # One bit for each feature is made for rotated vectors.
    codes, rotated = "RaBitQfs", f"RR{d},{lists},RaBitQfs"
    yield Contender("Faiss RaBitQ", faiss_index(rotated), codes=codes)
    yield _refined("Faiss RaBitQ, RFlat", codes, rotated)


def _ours(codes, **sizes):
    params = {**OURS.arguments, **sizes, "store_vectors": True, "random_state": 0}
    return Contender("ours", PeerProcess("Ours", params), "refine_factor", codes)


def _refined(peer, codes, refined):
    return Contender(peer, faiss_index(f"{refined},RFlat"), "k_factor", codes)
