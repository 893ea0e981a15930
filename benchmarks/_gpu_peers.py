"""Other libraries on the same GPU: torch, cuVS and Faiss, if they are there.

A peer is a function: given the options of a run and the rows, it builds an index and
returns a search, from queries on the host to row numbers on the host. A missing library
is an ImportError whose text is recorded.
"""

import importlib
from functools import partial

from _harness import seconds_of

# Rows that torch multiplies with at a time, and candidates that it measures again for
# each neighbour.
_CHUNK = 2**17
_REFINED = 4


def peers(run):
    """Other libraries, with NumPy arrays in and out, and their recall."""
    if run.options.sim:
        yield from ({"peer": name, "skipped": "simulated"} for name in PEERS)
        return
    for data, X, Q in run.data_sets():
        exact = run.exact(X, Q)
        for name, build in PEERS.items():
            if run.seconds_left < 0:
                yield {"peer": run.STOPPED}
                return
            case = {"peer": name, "data": data}
            try:
                seconds, search = seconds_of(partial(build, run, X))
                case["build, ms"] = 1e3 * seconds
                for row in run.time_search(search, X, Q, exact):
                    yield {**case, **row}
            except Exception as error:
                # A peer that fails is no failure of ours.
                yield {**case, "skipped": f"{type(error).__name__}: {error}"}


def _torch(precision, run, X):
    torch = run.torch()
    rows = torch.from_numpy(X).cuda()
    norms = (rows * rows).sum(1)
    halves = rows.bfloat16() if precision == "bfloat16" else None

    def search(Q):
        queries = torch.from_numpy(Q).cuda()
        if halves is not None:
            n_found = min(_REFINED * run.k, len(X))
            ids = _torch_nearest(torch, queries.bfloat16(), halves, norms, n_found)
            differences = [rows[column] - queries for column in ids.T.unbind(0)]
            sqdists = torch.stack([x.square().sum(1) for x in differences], 1)
            return ids.gather(1, sqdists.topk(run.k, largest=False).indices).cpu()
        torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
        try:
            return _torch_nearest(torch, queries, rows, norms, run.k).cpu()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return search


def _torch_nearest(torch, Q, X, norms, k):
    """Distances by a matrix product, a part of the rows at a time, and topk."""
    found = []
    for start in range(0, len(X), _CHUNK):
        part = X[start : start + _CHUNK]
        of_part = norms[start : start + _CHUNK]
        if Q.dtype == norms.dtype:
            sqdists = torch.addmm(of_part, Q, part.T, alpha=-2)
        else:
            sqdists = of_part - 2 * (Q @ part.T).float()
        values, ids = sqdists.topk(min(k, len(part)), largest=False)
        found.append((values, ids + start))
    values, ids = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return ids.gather(1, values.topk(k, largest=False).indices)


def _cuvs(kind, run, X):
    module = importlib.import_module(f"cuvs.neighbors.{kind}")
    from numba import cuda

    rows = cuda.to_device(X)
    if kind == "brute_force":
        index, more = module.build(rows, metric="sqeuclidean"), ()
    else:
        params = {"n_lists": run.nlist_for(X), "metric": "sqeuclidean"}
        if kind == "ivf_pq":
            params |= {"pq_dim": X.shape[1] // 8, "pq_bits": 8}
        index = module.build(module.IndexParams(**params), rows)
        more = (module.SearchParams(n_probes=run.nprobe),)

    def search(Q):
        _, ids = module.search(*more, index, cuda.to_device(Q), run.k)
        return cuda.as_cuda_array(ids).copy_to_host()

    search.rows = rows  # the index of brute_force refers to them
    return search


def _faiss(kind, run, X):
    faiss = importlib.import_module("faiss")
    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("this Faiss has no GPU part")
    resources, d = faiss.StandardGpuResources(), X.shape[1]
    if kind == "flat":
        index = faiss.GpuIndexFlatL2(resources, d)
    else:
        metric, nlist = faiss.METRIC_L2, run.nlist_for(X)
        index = faiss.GpuIndexIVFFlat(resources, d, nlist, metric)
        index.train(X)
        index.nprobe = run.nprobe
    index.add(X)

    def search(Q):
        return index.search(Q, run.k)[1]

    search.resources = resources  # the index refers to them
    return search


PEERS = {
    "torch float32": partial(_torch, "float32"),
    "torch TF32": partial(_torch, "TF32"),
    "torch bfloat16, measured again": partial(_torch, "bfloat16"),
    "cuVS brute_force": partial(_cuvs, "brute_force"),
    "cuVS ivf_flat": partial(_cuvs, "ivf_flat"),
    "cuVS ivf_pq": partial(_cuvs, "ivf_pq"),
    # Last: a wheel without code for this GPU may end the process.
    "Faiss GpuIndexFlatL2": partial(_faiss, "flat"),
    "Faiss GpuIndexIVFFlat": partial(_faiss, "ivf_flat"),
}
