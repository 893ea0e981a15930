"""Search of inverted lists: IVFFlatNeighbors beside Faiss and hnswlib.

All peers have the centroids that Faiss trained; without Faiss they are our own.
"""

from _harness import WIDEST, PeerProcess, faiss_index, on_each_blas
from _measure import (
    Case,
    Contender,
    agreement,
    curve,
    installed,
    nearest_lists,
    speed,
    training,
)

NLISTS = {"sentences": [50], "sift": [1024, 4096], "fashion-mnist": [256], "tiny": [16]}
NPROBES = {"sentences": [1, 8, 10, 32], "sift": [1, 8, 32, 64], "tiny": [1, 4]}
NPROBES["fashion-mnist"] = NPROBES["sift"]

_MANY_QUERIES = 10_000

_OURS = {"estimator": "IVFFlatNeighbors"}
OURS = PeerProcess("Ours", _OURS)
PANORAMA, PCA_PANORAMA = "Faiss Panorama", "Faiss PCA, Panorama"
RIVALS = {"Faiss IVFFlat": [*on_each_blas("Faiss IVFFlat", "Faiss")]}
RIVALS |= {PANORAMA: [PANORAMA], PCA_PANORAMA: [PCA_PANORAMA]}


def cases(run):
    for data in run.data_sets(NLISTS, _MANY_QUERIES):
        for nlist in NLISTS[data.name]:
            yield run.once(("lists", data.name, nlist), _make_case, run, data, nlist)


def _make_case(run, data, nlist):
    """Each row is in the list of its nearest centroid, by our arithmetic for all."""
    sizes = {"nlist": nlist}
    key = {"key": f"IVF{nlist},Flat"}
    faiss = installed({"trainer": PeerProcess("FaissTraining", key, WIDEST)})
    ours = {"trainer": PeerProcess("OursTraining", {**_OURS, **sizes})}
    with run.start(faiss or ours, Case(data)) as workers:
        workers["trainer"].ask("train", 0)
        centroids = workers["trainer"].ask("centroids")
    labels = nearest_lists(data.X, centroids, 1)[:, 0]
    return Case(data, sizes, {"centroids": centroids, "labels": labels})


curve_cases = cases


def peers(case):
    d, lists = case.data.X.shape[1], f"IVF{case.sizes['nlist']}"
    faisses = on_each_blas("Faiss IVFFlat", "Faiss", key=f"{lists},Flat")
    found = {"ours": OURS, **faisses, PANORAMA: faiss_index(f"{lists},FlatPanorama8")}
    # Panorama is made for vectors in the order of principal components.
    return {**found, PCA_PANORAMA: faiss_index(f"PCA{d},{lists},FlatPanorama8")}


def batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    yield from [(1, 1), (1000, 2)]
    if (case.data.name, nprobe) in (("sentences", 10), ("sift", 32)):
        yield from [(1, 2), (1000, 1)]
    if len(case.data.Q) >= _MANY_QUERIES and nprobe == 32:
        yield _MANY_QUERIES, 2


def contenders(case):
    d, lists = case.data.X.shape[1], f"IVF{case.sizes['nlist']}"
    yield Contender("ours", OURS)
    yield Contender("Faiss IVFFlat", faiss_index(f"{lists},Flat"))
    yield from (Contender(x, peers(case)[x]) for x in (PANORAMA, PCA_PANORAMA))
    key = f"{lists},PQ{d // 2}x4fs,RFlat"
    yield Contender("Faiss refine", faiss_index(key), "k_factor")
    # A graph takes minutes for a million rows.
    if len(case.data.X) < 10**5:
        yield Contender("hnswlib", PeerProcess("Hnsw"))


def trainers(run):
    for data in run.data_sets(["sift", "tiny"]):
        sizes = {"nlist": NLISTS[data.name][0]}
        faisses = on_each_blas(
            "Faiss", "FaissTraining", key=f"IVF{sizes['nlist']},Flat"
        )
        ours = PeerProcess("OursTraining", {**_OURS, **sizes})
        yield Case(data, sizes), {"ours": ours, **faisses}


SECTIONS = [speed, curve, agreement, training]
