"""Nearest-neighbour search for scikit-learn: exact where it says exact, and fast."""

from sklearn_ann._display import RecallCurveDisplay
from sklearn_ann._faiss import from_faiss
from sklearn_ann._flat import FlatL2Neighbors
from sklearn_ann._ivf_flat import IVFFlatNeighbors
from sklearn_ann._ivf_pq import IVFPQNeighbors
from sklearn_ann._recall import knn_recall
from sklearn_ann._scorer import SpeedScorer
from sklearn_ann._version import __version__
from sklearn_ann.warm_up import warm_up

__all__ = [
    "FlatL2Neighbors",
    "IVFFlatNeighbors",
    "IVFPQNeighbors",
    "RecallCurveDisplay",
    "SpeedScorer",
    "__version__",
    "from_faiss",
    "knn_recall",
    "warm_up",
]
