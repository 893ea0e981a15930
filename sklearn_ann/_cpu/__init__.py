"""The operations of the seam on the CPU, compiled by Numba on first use."""

from sklearn_ann._cpu._ivf_flat import radius_ivf_flat, scan_ivf_flat
from sklearn_ann._cpu._ivf_pq import (
    candidates_ivf_pq,
    radius_ivf_pq,
    scan_ivf_pq,
)
from sklearn_ann._cpu._kmeans import accumulate_clusters, assign
from sklearn_ann._cpu._knn import knn
from sklearn_ann._cpu._pq_codes import (
    accumulate_codewords,
    decode_rows,
    encode_pq,
    place_pq,
)
from sklearn_ann._cpu._radius import radius
from sklearn_ann._cpu._refine import refine
from sklearn_ann._cpu._simd import simd_tier
from sklearn_ann._cpu._sq8 import encode_sq8
from sklearn_ann._cpu._twins import rank_twins

__all__ = [
    "accumulate_clusters",
    "accumulate_codewords",
    "assign",
    "candidates_ivf_pq",
    "decode_rows",
    "encode_pq",
    "encode_sq8",
    "knn",
    "place_pq",
    "radius",
    "radius_ivf_flat",
    "radius_ivf_pq",
    "rank_twins",
    "refine",
    "scan_ivf_flat",
    "scan_ivf_pq",
    "simd_tier",
]
