"""Search of inverted lists: IVFFlatNeighbors beside Faiss and hnswlib.

All peers have the centroids that Faiss trained; without Faiss they are our own.
"""

from _harness import PeerProcess, faiss_index, on_each_blas
from _measure import Case, Contender, nearest_lists, trained

SECTIONS = "speed", "curve", "agreement", "training"
NLISTS = {"sentences": [50], "sift": [1024, 4096], "fashion-mnist": [256], "tiny": [16]}
NPROBES = {"sentences": [1, 8, 10, 32], "sift": [1, 8, 32, 64], "tiny": [1, 4]}
NPROBES["fashion-mnist"] = NPROBES["sift"]
OURS = PeerProcess("Ours", {"estimator": "IVFFlatNeighbors"})
PANORAMA, PCA_PANORAMA = "Faiss Panorama", "Faiss PCA, Panorama"
RIVALS = {"Faiss IVFFlat": [*on_each_blas("Faiss IVFFlat", "Faiss")]}
RIVALS |= {PANORAMA: [PANORAMA], PCA_PANORAMA: [PCA_PANORAMA]}

_MANY_QUERIES = 10_000


def key(nlist):
    """How Faiss names such an index."""
    return f"IVF{nlist},Flat"


def cases(run):
    for data in run.data_sets(NLISTS, _MANY_QUERIES):
        for nlist in NLISTS[data.name]:
            yield run.once((data.name, nlist), _make_case, run, data, nlist)


def _make_case(run, data, nlist):
    """Each row is in the list of its nearest centroid, by our arithmetic for all."""
    case = Case(data, {"nlist": nlist})
    centroids, _ = trained(run, case, OURS, key(nlist))
    labels = nearest_lists(data.X, centroids, 1)[:, 0]
    return case._replace(arrays={"centroids": centroids, "labels": labels})


def peers(case):
    """Panorama is made for vectors in the order of principal components."""
    flat, d = key(**case.sizes), case.data.X.shape[1]
    faisses = on_each_blas("Faiss IVFFlat", "Faiss", key=flat)
    panoramas = {PANORAMA: faiss_index(f"{flat}Panorama8")}
    panoramas[PCA_PANORAMA] = faiss_index(f"PCA{d},{flat}Panorama8")
    return {"ours": OURS, **faisses, **panoramas}


def batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    yield from [(1, 1), (1000, 2)]
    if (case.data.name, nprobe) in (("sentences", 10), ("sift", 32)):
        yield from [(1, 2), (1000, 1)]
    if len(case.data.Q) >= _MANY_QUERIES and nprobe == 32:
        yield _MANY_QUERIES, 2


def contenders(case):
    flat, d = key(**case.sizes), case.data.X.shape[1]
    yield Contender("ours", OURS)
    yield Contender("Faiss IVFFlat", faiss_index(flat))
    yield from (Contender(name, peers(case)[name]) for name in (PANORAMA, PCA_PANORAMA))
    codes = f"IVF{case.sizes['nlist']},PQ{d // 2}x4fs,RFlat"
    yield Contender("Faiss refine", faiss_index(codes), "k_factor")
    # A graph takes minutes for a million rows.
    if len(case.data.X) < 10**5:
        yield Contender("hnswlib", PeerProcess("Hnsw"))


def training_cases(run):
    for data in run.data_sets(["sift", "tiny"]):
        yield Case(data, {"nlist": NLISTS[data.name][0]})
