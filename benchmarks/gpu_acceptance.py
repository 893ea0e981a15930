"""Test and measure the GPU backend, on a machine that has a GPU.

``python benchmarks/gpu_acceptance.py`` runs the tests on the device, measures what the
device can do, how near the kernels come to it, and the estimators beside other
libraries. What it finds goes into ``gpu_acceptance.json`` and ``gpu_acceptance.md``
line by line: a run that is cut short keeps what it has.

``--stages tests,kernels`` runs some stages, each in a process of its own, as after an
error of CUDA every later call of a process fails. What the folder has of the others,
for the same commit, stays there. ``--resume`` leaves out those that are finished. What
cannot run is recorded with the reason. ``--sim`` does it all in the simulator with tiny
sizes, to try this script where there is no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # this checkout, installed or not

import numpy as np  # noqa: E402
from _data import clustered, found_sqdists, load  # noqa: E402
from _gpu_peers import peers  # noqa: E402
from _gpu_roofline import ceilings, kernels  # noqa: E402
from _harness import seconds_of  # noqa: E402
from _report import RESULTS, commit, output_of, table  # noqa: E402

from sklearn_ann import _calibration, knn_recall  # noqa: E402

K = 10
PACKAGES = "numpy", "numba", "numba_cuda", "torch", "cupy", "cuvs", "faiss"

# Files of tests at a time: most of the time compiles on the host.
TESTS_AT_ONCE = 8

# Rows and features of what is generated where the data set is not there.
SIZES = {"sift": (10**6, 128), "sentences": (14_504, 768)}


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sim", action="store_true", help="tiny, in the simulator")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--time-limit", type=float, default=570, help="seconds")
    parser.add_argument("--stages", default=",".join(STAGES), help="%(default)s")
    parser.add_argument("--resume", action="store_true", help="only what is unfinished")
    parser.add_argument("--commit", help="its name, where there is no .git")
    parser.add_argument("--data-home", help="folder, by default scikit-learn's")
    options = parser.parse_args()
    options.stages = options.stages.split(",")
    if unknown := {*options.stages} - {*STAGES}:
        parser.error(f"there is no stage {', '.join(unknown)}")
    return options


class Run:
    """The options, the clock, and what was found so far."""

    STOPPED = "stopped at the time limit"

    def __init__(self, options):
        self.options, self._start, self.k = options, time.perf_counter(), K
        self.batches, self.rounds, self.nprobe = [1, 100, 10_000], 10, 32
        if options.sim:
            self.batches, self.rounds, self.nprobe = [1, 2], 1, 1
            # A simulated GPU takes seconds for what a thousand queries are.
            _calibration.MOST_QUERIES = 4
        self._path = options.output / "gpu_acceptance.json"
        self._header = {"schema_version": 2, "simulated": options.sim}
        self._header["commit"] = options.commit or commit()
        self.load()

    def load(self):
        """What the folder has for the same commit."""
        self.found, self.finished = {}, []
        if self._path.is_file():
            before = json.loads(self._path.read_text(encoding="utf-8"))
            if self._header.items() <= before.items():
                self.found, self.finished = before["found"], before["finished"]

    @property
    def seconds_left(self):
        return self._start + self.options.time_limit - time.perf_counter()

    def data_sets(self):
        """Names, rows and queries: real vectors if they are there, or generated."""
        n_queries = max(self.batches)
        if self.options.sim:
            yield "100 x 8, clustered", *clustered(100, n_queries, 8)
            return
        for name, (n, d) in SIZES.items():
            try:
                _, X, Q = load(name, self.options.data_home, n_queries)
                yield f"{name}, {n} x {d}", X, Q
            except OSError:
                yield f"{n} x {d}, clustered", *clustered(n, n_queries, d)

    def nlist_for(self, X):
        return 1024 if len(X) >= 10**6 else max(2, len(X) // 200)

    def exact(self, X, Q):
        """Squared distances of the neighbours of each query, from the CPU."""
        from sklearn_ann import FlatL2Neighbors

        index = FlatL2Neighbors(K, metric="sqeuclidean", device="cpu").fit(X)
        return index.kneighbors(Q)[0]

    def time_search(self, search, X, Q, exact):
        """Columns of a search by batch size: its time from and to the host, recall."""
        for batch in self.batches:
            queries = Q[:batch]
            ids = np.asarray(search(queries))  # compiles and uploads
            repeats = (seconds_of(partial(search, queries)) for _ in range(self.rounds))
            seconds = median(seconds for seconds, _ in repeats)
            row = {"batch": batch, "ms": 1e3 * seconds, "queries/s": batch / seconds}
            found = found_sqdists(X, queries, ids)
            yield {**row, "recall": knn_recall(exact[:batch], found)}

    def torch(self):
        """The module; an ImportError says why it is not used."""
        if self.options.sim:
            raise ImportError("simulated")
        import torch

        if not torch.cuda.is_available():
            raise ImportError("torch finds no GPU")
        return torch

    def do(self, stage):
        """Run a stage, and write each line down as soon as it is known."""
        print(f"== {stage.__doc__}", flush=True)
        name = stage.__name__
        rows = self.found[name] = []
        self.finished = [other for other in self.finished if other != name]
        try:
            for row in stage(self):
                rows.append(row)
                self.save()
                print("  ", row, flush=True)
        except Exception as error:
            traceback.print_exc()
            rows.append({"error": f"{type(error).__name__}: {error}"})
        is_cut = self.STOPPED in (value for row in rows for value in row.values())
        if not is_cut and not any("error" in row for row in rows):
            self.finished.append(name)
        self.save()

    def do_apart(self, name):
        """Run a stage in a process of its own, which may die or hang."""
        options, limit = self.options, self.seconds_left
        if not options.sim:
            limit = min(LIMITS[name], limit)
        command = [sys.executable, __file__, "--stages", name, "--output"]
        command += [options.output, "--time-limit", limit]
        command += ["--commit", self._header["commit"]] + ["--sim"] * options.sim
        command += ["--data-home", options.data_home] if options.data_home else []
        try:
            # It stops by itself, if it comes to a row.
            done = subprocess.run([*map(str, command)], timeout=limit + 20)
            how = f"ended with {done.returncode}"
        except subprocess.TimeoutExpired:
            how = self.STOPPED
        self.load()
        rows = self.found.setdefault(name, [])
        if name not in self.finished and all(map(_is_good, rows)):
            rows.append({"error": how})
            self.save()

    def rows_of(self, stage):
        """What a stage has found; it runs now if it did not."""
        if stage.__name__ not in self.finished:
            self.do(stage)
        return self.found[stage.__name__]

    def save(self):
        found = {**self._header, "finished": self.finished, "found": self.found}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self._path, json.dumps(found, indent=1) + "\n")
        parts = ["# GPU acceptance"]
        if self.options.sim:
            parts.append("In the simulator: times say nothing.")
        for name, stage in STAGES.items():
            if self.found.get(name):
                parts += [f"## {stage.__doc__}", table(self.found[name])]
        markdown = "\n\n".join(parts) + "\n"
        _replace(self._path.with_suffix(".md"), markdown)


def _replace(path, text):
    """Write a file at once: whoever is killed meanwhile leaves the one before."""
    path.with_suffix(".new").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".new"), path)


def environment(run):
    """The machine, its driver and the versions."""
    found = {"python": sys.version.split()[0]}
    distributions = metadata.packages_distributions()
    for package in PACKAGES:
        names = distributions.get(package, [])
        versions = [f"{name} {metadata.version(name)}" for name in sorted({*names})]
        found[package] = ", ".join(versions) or "not installed"
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
    found["GPU"] = output_of("nvidia-smi", query, "--format=csv,noheader")
    yield from ({"what": name, "value": value} for name, value in found.items())
    if run.options.sim:
        return
    yield _libnvvm()
    from numba import cuda

    device = cuda.get_current_device()
    capability = "{}.{}".format(*device.compute_capability)
    yield {"what": "compute capability", "value": capability}
    yield {"what": "multiprocessors", "value": str(device.MULTIPROCESSOR_COUNT)}


def _libnvvm():
    """Whether the compiler is there, or what to install: it comes with no driver."""
    try:
        from numba.cuda.cudadrv.nvvm import NVVM

        version = "{}.{}".format(*NVVM().get_version())
        return {"what": "libNVVM", "value": version}
    except Exception as error:
        linkers = {
            found.metadata["Name"]: ".".join(found.version.split(".")[:2])
            for found in metadata.distributions()
            if found.metadata["Name"].startswith("nvidia-nvjitlink")
        }
        version = max(linkers.values(), default="the version of the toolkit")
        # Those of CUDA 12 are in another package.
        is_12 = version.startswith("12")
        package = "nvidia-cuda-nvcc-cu12" if is_12 else "nvidia-nvvm"
        advice = f"set CUDA_HOME to a toolkit, or install {package}=={version}.*, as "
        advice += "nvJitLink does not link what a newer libNVVM has compiled"
        return {"what": "libNVVM", "error": f"{error}; {advice}"}


def tests(run):
    """The test suite of the device."""
    folder = HERE.parent / "tests" / "cuda"
    # Of the simulated suite one file shows that this stage works.
    files = sorted(folder.glob("test_topk.py" if run.options.sim else "test_*.py"))
    with ThreadPoolExecutor(TESTS_AT_ONCE) as pool:
        jobs = [pool.submit(_test, run, path) for path in files]
        for job in as_completed(jobs):
            yield from job.result()


def _test(run, path):
    """The result of a file of tests; the folder has what it prints, as it prints it."""
    log = run.options.output / f"{path.stem}.log"
    command = [sys.executable, "-m", "pytest", "-v", "-rfEs", "--tb=short", str(path)]
    # An error is reported by the launch that has made it.
    variables = {**os.environ, "CUDA_LAUNCH_BLOCKING": "1", "PYTHONUNBUFFERED": "1"}
    how, row = {"cwd": HERE.parent, "env": variables}, {"file": path.name}
    with log.open("w", encoding="utf-8") as output:
        how |= {"stdout": output, "stderr": subprocess.STDOUT}
        try:
            limit = max(1, run.seconds_left)
            row["rc"] = subprocess.run(command, timeout=limit, **how).returncode
        except subprocess.TimeoutExpired:
            row["error"] = run.STOPPED
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    rows = [{**row, "result": "".join(lines[-1:])}]
    # Those that failed, and the reasons of those that did not run.
    listed = [x for x in lines if x.startswith(("FAILED", "ERROR", "SKIPPED"))]
    if "error" in row:
        listed = [x for x in lines if " FAILED " in x or " ERROR " in x]
    return rows + [{"file": path.name, "result": line} for line in listed]


def same_as_cpu(run):
    """Whether the CPU gives the same answers, in both directions of fit and search."""
    from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

    n, nq = (100, 2) if run.options.sim else (200_000, 1000)
    lists = {"nlist": 2, "nprobe": 1} if run.options.sim else {"nlist": 300}
    lists = {**lists, "max_iter": 2, "random_state": 0}
    # Tables of float32 and of float16.
    codes = [{"nbits": 8, "m": 4}, {"nbits": 8, "m": 20}]
    if run.options.sim:
        codes = [{"nbits": 4, "m": 2}]
    X, Q = clustered(n, nq, 20)
    cases = [(FlatL2Neighbors, {}), (IVFFlatNeighbors, lists)]
    for cls, params in cases + [(IVFPQNeighbors, {**lists, **x}) for x in codes]:
        answers = []
        for fit, search in (("cpu", "cpu"), ("cpu", "cuda"), ("cuda", "cpu")):
            estimator = cls(K, device=fit, **params).fit(X)
            answers.append(estimator.set_params(device=search).kneighbors(Q))
        same = [all(map(np.array_equal, answers[0], other)) for other in answers[1:]]
        row = {"estimator": cls.__name__, "m": params.get("m", "")}
        row["fit on CPU, searched on GPU"], row["fit on GPU, searched on CPU"] = same
        yield row


def estimators(run):
    """The estimators, end to end with NumPy arrays, and their recall."""
    for name, X, Q in run.data_sets():
        exact = run.exact(X, Q)
        for label, estimator in _estimators(run, X):
            base = {"estimator": label, "data": name}
            seconds, _ = seconds_of(partial(estimator.fit, X))
            yield {**base, "batch": "fit", "ms": 1e3 * seconds}

            def search(queries, estimator=estimator):
                return estimator.kneighbors(queries)[1]

            for row in run.time_search(search, X, Q, exact):
                yield {**base, **row}
                if run.seconds_left < 0:
                    yield {"estimator": run.STOPPED}
                    return


def _estimators(run, X):
    """Estimators for the rows, by name."""
    from sklearn_ann import FlatL2Neighbors, IVFFlatNeighbors, IVFPQNeighbors

    params = {"nlist": run.nlist_for(X), "nprobe": run.nprobe, "random_state": 0}
    params["device"], codes = "cuda", {"nbits": 8}
    if run.options.sim:
        params["max_iter"], codes = 1, {"nbits": 4, "m": 2}
    yield "FlatL2Neighbors", FlatL2Neighbors(K, device="cuda")
    yield "IVFFlatNeighbors", IVFFlatNeighbors(K, **params)
    yield "IVFPQNeighbors", IVFPQNeighbors(K, **params, **codes)
    refined = {"store_vectors": True, "refine_factor": 4}
    yield "IVFPQNeighbors, refined", IVFPQNeighbors(K, **params, **codes, **refined)


STAGES = {
    stage.__name__: stage
    for stage in (environment, tests, same_as_cpu, ceilings, kernels, estimators, peers)
}

# Seconds of each stage on an H100, compiling included: estimates, with some to spare.
LIMITS = {"environment": 30, "tests": 400, "same_as_cpu": 80, "ceilings": 60}
LIMITS |= {"kernels": 150, "estimators": 180, "peers": 150}


def _is_good(row):
    is_false = any(value is False for value in row.values())
    return row.get("rc", 0) == 0 and "error" not in row and not is_false


def main():
    options = _parse()
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1" if options.sim else "0"
    if options.sim:
        sys.path.insert(0, str(HERE.parent / "tests"))
        import cuda_simulator

        cuda_simulator.install()
    run = Run(options)
    done = run.finished if options.resume else []
    stages = [x for x in STAGES if x in options.stages and x not in done]
    if len(options.stages) == 1:
        for name in stages:
            run.do(STAGES[name])
    else:
        plan = ", ".join(f"{name} {LIMITS[name]} s" for name in stages)
        print(f"At most: {plan}; together {options.time_limit:g} s", flush=True)
        for name in stages:
            run.do_apart(name)
    rows = [row for name in options.stages for row in run.found[name]]
    sys.exit(0 if all(map(_is_good, rows)) else 1)


if __name__ == "__main__":
    main()
