"""A program that uses everything public, for the type checker only: see pyproject.toml.

What a user's editor shows is asserted here. Nothing is run.
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import sklearn_ann
from sklearn_ann import (
    FlatL2Neighbors,
    IVFFlatNeighbors,
    IVFPQNeighbors,
    RecallCurveDisplay,
    SpeedScorer,
    from_faiss,
)
from sklearn_ann.datasets import fetch_sentence_embeddings
from sklearn_ann.exceptions import (
    DisconnectedGraphWarning,
    FewTrainingRowsWarning,
    OutgrownListsWarning,
    TargetRecallWarning,
)

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Objects = NDArray[np.object_]


class OnGpu:
    """An array of a library that nobody knows."""

    __cuda_array_interface__: dict[str, Any] = {}


def parameters(memory: sklearn_ann._typing.Memory) -> None:
    FlatL2Neighbors(7, radius=2.0, metric="cosine", mode="connectivity", n_jobs=1)
    IVFFlatNeighbors(7, nlist=5, nprobe=2, init=[[0.0]], max_iter=0, memory=memory)
    IVFFlatNeighbors(nlist="auto", random_state=np.random.RandomState(0), memory=".")
    IVFPQNeighbors(m=4, nbits=4, codebooks=np.zeros((4, 16, 2)), store_vectors=True)
    IVFPQNeighbors(m="auto", refine_factor=3, device="cuda:1", verbose=1)
    FlatL2Neighbors(metric="manhattan")  # type: ignore[arg-type]
    FlatL2Neighbors(mode="graph")  # type: ignore[arg-type]
    IVFFlatNeighbors(nlist="many")  # type: ignore[arg-type]
    IVFPQNeighbors(codebook=None)  # type: ignore[call-arg]


def fits(X: NDArray[np.float32], tensor: OnGpu) -> None:
    assert_type(FlatL2Neighbors().fit(X), FlatL2Neighbors)
    assert_type(IVFFlatNeighbors().fit([[1.0, 2.0]], None), IVFFlatNeighbors)
    assert_type(IVFPQNeighbors().fit(tensor).partial_fit(X), IVFPQNeighbors)
    FlatL2Neighbors().fit()  # type: ignore[call-arg]


def searches(X: NDArray[np.float32], tensor: OnGpu) -> None:
    index = FlatL2Neighbors().fit(X)
    assert_type(index.kneighbors(), tuple[Floats, Ids])
    assert_type(index.kneighbors(X, 3), tuple[Floats, Ids])
    assert_type(index.kneighbors(X, return_distance=True), tuple[Floats, Ids])
    assert_type(index.kneighbors(X, 3, return_distance=False), Ids)
    found = index.kneighbors(X, return_distance=bool(X[0]))
    assert_type(found, tuple[Floats, Ids] | Ids)
    # As the library of the queries has it.
    assert_type(index.kneighbors(tensor), Any)
    assert_type(index.radius_neighbors(X, 1), tuple[Objects, Objects])
    assert_type(index.radius_neighbors(tensor, return_distance=False), Objects)
    index.radius_neighbors(X, 1.5, sort_results=True)
    index.kneighbors(X, "3")  # type: ignore[call-overload]


def graphs(X: NDArray[np.float32]) -> None:
    index = IVFFlatNeighbors()
    index.fit_transform(X)
    index.transform(X)
    index.kneighbors_graph(X, 3, mode="distance")
    index.radius_neighbors_graph(None, 1.0, sort_results=True)
    index.kneighbors_graph(connected=True)
    index.radius_neighbors_graph(radius=1.0, connected=True)
    index.kneighbors_graph(None, 3, "distance", True)  # type: ignore[call-arg]
    index.kneighbors_graph(X, mode="weights")  # type: ignore[arg-type]


def attributes(X: NDArray[np.float32]) -> None:
    index = IVFPQNeighbors().fit(X)
    assert_type(index.n_samples_fit_, int)
    assert_type(index.n_features_in_, int)
    assert_type(index.effective_metric_, str)
    assert_type(index.is_trained, bool)
    assert_type(index.ntotal, int)
    assert_type(index.nlist_, int)
    assert_type(index.n_iter_, int)
    assert_type(index.m_, int)
    assert_type(index.codebooks_, NDArray[np.float32])
    assert_type(index.cluster_centers_, NDArray[Any])
    assert_type(index.list_sizes_, Ids)
    assert_type(index.imbalance_factor_, float)
    assert_type(index.reconstruction_error_, float)
    assert_type(index.reconstruct(3), NDArray[Any])
    assert_type(index.reconstruct(range(3)), NDArray[Any])
    assert_type(index.score(X), float)
    assert_type(index.nprobe_, int)
    assert_type(index.refine_factor_, int)
    assert_type(index.recall_, float)
    assert_type(index.recall_interval_, tuple[float, float])
    assert_type(index.calibration_ids_, Ids | None)
    assert_type(index.calibration_queries_, NDArray[np.floating] | None)
    assert_type(index.retune(0.9, 3, calibration_queries=X), IVFPQNeighbors)
    assert_type(index.recall_curve(X), tuple[Ids, Floats, Floats])
    assert_type(index.summary(), str)
    # They come round.
    IVFPQNeighbors(
        init=index.cluster_centers_, max_iter=0, codebooks=index.codebooks_
    ).fit(X)


def functions(index: object, X: NDArray[np.float32]) -> None:
    assert_type(
        from_faiss(index, X, n_neighbors=3),
        FlatL2Neighbors | IVFFlatNeighbors | IVFPQNeighbors,
    )
    sklearn_ann.warm_up()
    display = RecallCurveDisplay.from_estimator(IVFFlatNeighbors().fit(X), X, name="a")
    assert_type(display, RecallCurveDisplay)
    assert_type(display.plot(None, name="b", color="red"), RecallCurveDisplay)
    RecallCurveDisplay(nprobe=[1], recall=[0.5], seconds_per_query=[1e-6]).plot()
    RecallCurveDisplay.from_curves([1], [0.5], [1e-6], chosen_nprobe=1, ax=display.ax_)
    assert_type(SpeedScorer(target_recall=0.9)(IVFFlatNeighbors().fit(X), X), float)
    assert_type(sklearn_ann.knn_recall(X, [[1.0, 2.0]]), float)
    assert_type(sklearn_ann.__version__, str)
    dataset = fetch_sentence_embeddings(Path("data"), download_if_missing=False)
    print(dataset.data.shape)
    assert_type(
        fetch_sentence_embeddings("data", return_X_y=True),
        tuple[NDArray[np.float32], Objects],
    )


WARNINGS: list[type[UserWarning]] = [
    DisconnectedGraphWarning,
    FewTrainingRowsWarning,
    OutgrownListsWarning,
    TargetRecallWarning,
]
