"""Recall that was asked for, and what queries that were not in the fit find of it."""

from statistics import mean, median

import numpy as np
from _data import DataSet
from _harness import log

from sklearn_ann import IVFFlatNeighbors, IVFPQNeighbors

SECTIONS = "targets", "codes"
TARGETS = 0.8, 0.9, 0.95, 0.99

# A run may fall short by so much, the deviation of a recall of a thousand queries. It
# is measured with more, so that their own deviation hardly counts.
_ALLOWED = 0.005
_N_QUERIES = 10_000
_N_SENTENCES = 4000

_N_SIFT = 200_000


def targets(run, subject):
    """The least number of lists that promises each target, and the least that does."""
    for data in _data_sets(run):
        runs = {target: [] for target in TARGETS}
        for seed in _seeds(run):
            part = _held_out(data, seed)
            index = IVFFlatNeighbors(random_state=seed, **_lists(run)).fit(part.X)
            for target in TARGETS:
                index.retune(target)
                found = index.score(part.Q)
                chosen, least = index.nprobe_, _least(index, part.Q, target)
                runs[target].append((found, index.recall_, chosen, least))
            log(f"{data.name}, seed {seed}: fitted")
        for target, rows in runs.items():
            found, promised, chosen, least = zip(*rows, strict=True)
            ratios = [a / b for a, b in zip(chosen, least, strict=True)]
            enough = [recall >= target - _ALLOWED for recall in found]
            run.tables["targets"].append(
                {
                    "data": data.name,
                    "lists": index.nlist_,
                    "target": f"{target}",
                    "runs": len(rows),
                    "enough": f"{mean(enough):.0%}",
                    "recall, mean": f"{mean(found):.4f}",
                    "least": f"{min(found):.4f}",
                    "recall_, mean": f"{mean(promised):.4f}",
                    "nprobe_": f"{min(chosen)} to {max(chosen)}",
                    "would do": f"{min(least)} to {max(least)}",
                    "ratio, median": f"{median(ratios):.2f}",
                    "largest": f"{max(ratios):.2f}",
                }
            )


def codes(run, subject):
    """`IVFPQNeighbors` with its defaults, and with stored vectors and each target."""
    for data in _data_sets(run):
        settings = {"none": {"refine_factor": 1}}
        settings |= {f"{target}": {"target_recall": target} for target in TARGETS}
        for target, setting in settings.items():
            runs = []
            for seed in _seeds(run)[:5]:
                part = _held_out(data, seed)
                setting = {**setting, **_lists(run), "random_state": seed}
                index = IVFPQNeighbors(store_vectors=True, **setting).fit(part.X)
                found = index.score(part.Q)
                index.set_params(nprobe=index.nlist_)
                about = index.nprobe_, index.refine_factor_, index.recall_
                runs.append((found, index.score(part.Q), *about))
            found, everything, chosen, factors, promised = zip(*runs, strict=True)
            run.tables["codes"].append(
                {
                    "data": data.name,
                    "parts": index.m_,
                    "target": target,
                    "runs": len(runs),
                    "recall, mean": f"{mean(found):.4f}",
                    "least": f"{min(found):.4f}",
                    "recall_, mean": f"{mean(promised):.4f}",
                    "all lists": f"{mean(everything):.4f}",
                    "nprobe_": f"{min(chosen)} to {max(chosen)}",
                    "refine_factor_": f"{min(factors)} to {max(factors)}",
                }
            )


def _data_sets(run):
    names = "sentences", "sift", "fashion-mnist", "tiny"
    for data in run.data_sets(names, _N_QUERIES):
        yield DataSet(data.name, data.X[:_N_SIFT], data.Q)


def _seeds(run):
    return range(2 if run.quick else 20)


def _lists(run):
    # The rows of a quick run are too few for lists otherwise.
    return {"nlist": 40} if run.quick else {}


def _held_out(data, seed):
    """The data without the queries; those of the sentences are rows of them."""
    if data.name != "sentences":
        return data
    order = np.random.default_rng(seed).permutation(len(data.X))
    n = _N_SENTENCES
    return DataSet(data.name, data.X[order[n:]], data.X[order[:n]])


def _least(index, Q, target):
    """The least number of lists with which these queries reach the target."""
    low, high = 0, index.nlist_
    while high - low > 1:
        nprobe = (low + high) // 2
        if index.set_params(nprobe=nprobe).score(Q) >= target:
            high = nprobe
        else:
            low = nprobe
    index.set_params(nprobe="auto")
    return high
