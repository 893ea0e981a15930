"""Exact search: FlatL2Neighbors beside Faiss and scikit-learn's brute force."""

import tempfile
from collections import defaultdict

from _harness import TIERS, PeerProcess, faiss_index, on_each_blas
from _measure import N_QUERIES, Case

SECTIONS = "speed", "agreement", "first_call"
NPROBES = defaultdict(lambda: [None])  # there are no lists
OURS = PeerProcess("Ours", {"estimator": "FlatL2Neighbors"})
FAISSES = on_each_blas("Faiss Flat", "Faiss", key="Flat")
SKLEARNS = on_each_blas("scikit-learn", "SklearnBrute")
RIVALS = {"Faiss Flat": [*FAISSES], "Faiss Panorama": ["Faiss Panorama"]}
RIVALS["scikit-learn"] = [*SKLEARNS]


def cases(run):
    return map(Case, run.data_sets(["sentences", "sift", "tiny"]))


def peers(case):
    """Panorama calls no BLAS: its times at all settings are the same."""
    found = {"ours": OURS, **FAISSES, "Faiss Panorama": faiss_index("FlatL2Panorama8")}
    for tier in TIERS if case.data.name == "sentences" else ():
        found[f"ours, {tier}"] = OURS._replace(environment=TIERS[tier])
    return {**found, **SKLEARNS}


def batches(case, nprobe):
    """Pairs of batch size and number of threads."""
    sizes = (1, 1000) if case.data.name == "tiny" else (1, 10, 100, 1000)
    return [(nq, n_threads) for n_threads in (1, 2) for nq in sizes]


def agreement(run, subject):
    """Queries whose ids are the true ones, in order, ties by row number."""
    names = ["sentences", "sift", "tiny", "offset", "integers"]
    some = {"ours": OURS, "Faiss Flat": faiss_index("Flat")}
    some["scikit-learn"] = PeerProcess("SklearnBrute")
    for data in run.data_sets(names):
        row = {"data": data.name, "shape": "{} x {}".format(*data.X.shape)}
        row["dtype"] = str(data.X.dtype)
        with run.start(some, Case(data)) as peers:
            for name, ask in peers.items():
                _, ids = ask("answers", N_QUERIES)
                n_equal = (ids == run.exact(data)[1]).all(axis=1).sum()
                row[name] = f"{n_equal}/{len(ids)}"
        run.tables["agreement"].append(row)
        run.expect(row["ours"] == f"{N_QUERIES}/{N_QUERIES}", f"true ids: {row}")


def first_call(run, subject):
    """Seconds of the first fit and search of a process, the import of Numba included.

    Cold: nothing was compiled before. Warm: compiled code is in the cache.
    """
    for data in run.data_sets(["sentences", "tiny"]):
        row = {"data": data.name}
        with tempfile.TemporaryDirectory() as cache:
            environment = {} if run.quick else {"NUMBA_CACHE_DIR": cache}
            ours = OURS._replace(environment=environment)
            for state in ("cold", "warm"):
                with run.start({"ours": ours}, Case(data)):
                    row[state] = run.first_seconds
        run.tables["first_call"].append(row)
