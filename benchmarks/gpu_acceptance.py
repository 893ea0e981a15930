"""Test and measure the GPU backend, on a machine that has a GPU.

``python benchmarks/gpu_acceptance.py`` runs the tests on the device, measures what the
device can do, the kernels and the estimators beside torch, and writes what it found to
``gpu_acceptance.json`` and ``gpu_acceptance.md`` after every stage: a run that is cut
short keeps what it has. ``--sim`` does it all in the simulator with tiny sizes, to try
this script where there is no GPU.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # this checkout, installed or not

import numpy as np  # noqa: E402

# (name, rows, features, batches): the sizes of SIFT and of the sentence embeddings.
SIZES = [("1M x 128", 10**6, 128), ("14504 x 768", 14_504, 768)]
BATCHES = [1, 100, 10_000]
TINY_SIZES = [("100 x 8", 100, 8)]
TINY_BATCHES = [1, 2]
K = 10
ROUNDS = 10


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sim", action="store_true", help="tiny, in the simulator")
    parser.add_argument("--output", default=HERE / "results", help="folder")
    parser.add_argument(
        "--time-limit", type=float, default=480, help="seconds; stages stop after it"
    )
    parser.add_argument("--skip-tests", action="store_true")
    return parser.parse_args()


class Run:
    """The options, the clock, and what was found so far."""

    def __init__(self, options):
        self.options, self.start = options, time.perf_counter()
        self.sizes = TINY_SIZES if options.sim else SIZES
        self.batches = TINY_BATCHES if options.sim else BATCHES
        self.rounds = 1 if options.sim else ROUNDS
        self.found = {"schema_version": 1, "simulated": options.sim}

    @property
    def is_late(self):
        return time.perf_counter() - self.start > self.options.time_limit

    def save(self):
        folder = Path(self.options.output)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.found, indent=1) + "\n"
        (folder / "gpu_acceptance.json").write_text(text, encoding="utf-8")
        markdown = _markdown(self.found)
        (folder / "gpu_acceptance.md").write_text(markdown, encoding="utf-8")


# -- stages --------------------------------------------------------------------------


def environment(run):
    """The machine, its driver and the versions."""
    import numba
    import numba_cuda
    from numba import cuda

    commit = _output("git", "-C", HERE, "rev-parse", "--short", "HEAD")
    found = {
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "numba-cuda": numba_cuda.__version__,
    }
    if not run.options.sim:
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
        found["GPU"] = _output("nvidia-smi", query, "--format=csv,noheader")
        device = cuda.get_current_device()
        found["compute capability"] = "{}.{}".format(*device.compute_capability)
        found["multiprocessors"] = device.MULTIPROCESSOR_COUNT
    return [{"what": name, "value": str(value)} for name, value in found.items()]


def tests(run):
    """The test suite of the device."""
    if run.options.skip_tests:
        return [{"result": "skipped"}]
    folder = HERE.parent / "tests" / "cuda"
    # Of the simulated suite one file shows that this stage works.
    target = folder / "test_topk.py" if run.options.sim else folder
    arguments = [sys.executable, "-m", "pytest", "-q", "--tb=short", str(target)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=HERE.parent)
    print(done.stdout[-3000:])
    return [{"result": done.stdout.strip().rpartition("\n")[2], "rc": done.returncode}]


def ceilings(run):
    """What the device copies and multiplies, as measured with torch."""
    torch = _torch(run)
    if torch is None:
        return [{"what": "torch is not there: no ceilings"}]
    source = torch.empty(2**30, device="cuda")
    target = torch.empty_like(source)
    seconds = _torch_seconds(torch, lambda: target.copy_(source), run.rounds)
    rows = [{"what": "copy, GB/s", "value": 2 * source.nbytes / seconds / 1e9}]
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        x = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        seconds = _torch_seconds(torch, lambda x=x: x @ x, run.rounds)
        rows.append(
            {
                "what": f"matrices, {name}, TFLOP/s",
                "value": 2 * 8192**3 / seconds / 1e12,
            }
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    return rows


def estimators(run):
    """The estimators, end to end with NumPy arrays, and their recall."""
    from sklearn_ann import FlatL2Neighbors

    rows = []
    for name, n, d in run.sizes:
        X, Q = _clustered(n, max(run.batches), d)
        flat = FlatL2Neighbors(K, device="cuda")
        for label, estimator in (("FlatL2Neighbors", flat), *_with_lists(run, n)):
            seconds = _seconds(lambda e=estimator, X=X: e.fit(X), 1)
            base = {"estimator": label, "data": name}
            rows.append({**base, "batch": "fit", "ms": 1e3 * seconds})
            for batch in run.batches:
                if run.is_late:
                    return [*rows, {"estimator": "stopped at the time limit"}]
                queries = Q[:batch]
                _, ids = estimator.kneighbors(queries)  # compiles and uploads
                seconds = _seconds(
                    lambda e=estimator, q=queries: e.kneighbors(q), run.rounds
                )
                found = {
                    "batch": batch,
                    "ms": 1e3 * seconds,
                    "queries/s": batch / seconds,
                    "recall": _recall(ids, flat.kneighbors(queries)[1]),
                }
                rows.append({**base, **found})
    return rows


def _with_lists(run, n):
    """Estimators with inverted lists for n rows, by name."""
    from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors

    nlist = 1024 if n >= 10**6 else max(2, n // 200)
    params = {"nlist": nlist, "nprobe": 32, "random_state": 0, "device": "cuda"}
    codes = {"nbits": 8}
    if run.options.sim:
        params["max_iter"], codes = 1, {"nbits": 4, "m": 2}
    yield "IVFFlatNeighbors", IVFFlatNeighbors(K, **params)
    yield "IVFPQNeighbors", IVFPQNeighbors(K, **params, **codes)
    refined = {"store_vectors": True, "refine_factor": 4}
    yield "IVFPQNeighbors, refined", IVFPQNeighbors(K, **params, **codes, **refined)


def same_as_cpu(run):
    """Whether the CPU gives the same answers, in both directions of fit and search."""
    from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

    n, nq = (100, 2) if run.options.sim else (200_000, 1000)
    lists = {"nlist": 2, "nprobe": 1} if run.options.sim else {"nlist": 300}
    lists = {**lists, "max_iter": 2, "random_state": 0}
    codes = {"nbits": 4, "m": 2} if run.options.sim else {"nbits": 8, "m": 4}
    X, Q = _clustered(n, nq, 16)
    rows = []
    for cls, params in (
        (FlatL2Neighbors, {}),
        (IVFFlatNeighbors, lists),
        (IVFPQNeighbors, {**lists, **codes}),
    ):
        answers = []
        for fit, search in (("cpu", "cpu"), ("cpu", "cuda"), ("cuda", "cpu")):
            estimator = cls(K, device=fit, **params).fit(X)
            answers.append(estimator.set_params(device=search).kneighbors(Q))
        same = [
            all(np.array_equal(a, b) for a, b in zip(answers[0], other, strict=True))
            for other in answers[1:]
        ]
        rows.append(
            {
                "estimator": cls.__name__,
                "fit on CPU, searched on GPU": same[0],
                "fit on GPU, searched on CPU": same[1],
            }
        )
    return rows


def peers(run):
    """Exact search with torch: distances by a matrix product, then topk."""
    torch = _torch(run)
    if torch is None:
        return [{"peer": "torch is not there"}]
    rows = []
    for name, n, d in run.sizes:
        X, Q = (torch.from_numpy(a).cuda() for a in _clustered(n, max(run.batches), d))
        for precision in ("float32", "TF32"):
            torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
            for batch in run.batches:
                if run.is_late:
                    return [*rows, {"peer": "stopped at the time limit"}]
                seconds = _torch_seconds(
                    torch, lambda q=Q[:batch], X=X: _torch_knn(torch, q, X), run.rounds
                )
                rows.append(
                    {
                        "peer": f"torch {precision}",
                        "data": name,
                        "batch": batch,
                        "ms": 1e3 * seconds,
                        "queries/s": batch / seconds,
                    }
                )
    torch.backends.cuda.matmul.allow_tf32 = False
    return rows


STAGES = (environment, tests, same_as_cpu, ceilings, estimators, peers)


# -- parts of them -------------------------------------------------------------------


def _output(*command):
    try:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip()


def _clustered(n, nq, d):
    """Rows around a thousand centres; queries are like rows."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((1000, d), dtype=np.float32)
    rows = centers[rng.integers(0, 1000, n + nq)]
    rows += 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)
    return rows[:n], rows[n:]


def _recall(ids, exact):
    return float(
        np.mean([len({*a} & {*b}) / K for a, b in zip(ids, exact, strict=True)])
    )


def _seconds(call, rounds):
    """The median time of a call that ends on the host."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _torch(run):
    if run.options.sim:
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def _torch_seconds(torch, call, rounds):
    def finished():
        call()
        torch.cuda.synchronize()

    finished()
    return _seconds(finished, rounds)


def _torch_knn(torch, Q, X, chunk=2**17):
    """Distances a part of the rows at a time, and the nearest of all parts."""
    norms = (X * X).sum(1)
    best = None
    for start in range(0, len(X), chunk):
        part = X[start : start + chunk]
        sqdists = torch.addmm(norms[start : start + chunk], Q, part.T, alpha=-2)
        values, ids = sqdists.topk(K, largest=False)
        ids += start
        if best is not None:
            values, ids = torch.cat([best[0], values], 1), torch.cat([best[1], ids], 1)
            values, order = values.topk(K, largest=False)
            ids = ids.gather(1, order)
        best = values, ids
    return best[1].cpu()


def _markdown(found):
    """One table for each stage."""
    lines = ["# GPU acceptance", ""]
    if found["simulated"]:
        lines += ["In the simulator: times say nothing.", ""]
    for stage in STAGES:
        rows = found.get(stage.__name__)
        if not rows:
            continue
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += [f"## {stage.__doc__}", "", "| " + " | ".join(names) + " |"]
        lines.append("|" + " --- |" * len(names))
        for row in rows:
            cells = (_cell(row.get(name, "")) for name in names)
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main():
    options = _parse()
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1" if options.sim else "0"
    if options.sim:
        sys.path.insert(0, str(HERE.parent / "tests"))
        import cuda_simulator

        cuda_simulator.install()
    run = Run(options)
    for stage in STAGES:
        print(f"== {stage.__doc__}", flush=True)
        try:
            run.found[stage.__name__] = stage(run)
        except Exception as error:
            run.found[stage.__name__] = [{"error": f"{type(error).__name__}: {error}"}]
        run.save()
        for row in run.found[stage.__name__]:
            print("  ", row, flush=True)
    is_good = all(
        row.get("rc", 0) == 0
        and "error" not in row
        and not any(value is False for value in row.values())
        for stage in STAGES
        for row in run.found[stage.__name__]
    )
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
