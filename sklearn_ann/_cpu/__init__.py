"""The operations of the seam on the CPU, compiled by Numba on first use."""

from sklearn_ann._cpu._knn import knn
from sklearn_ann._cpu._radius import radius
from sklearn_ann._cpu._simd import simd_tier
from sklearn_ann._cpu._sq8 import encode_sq8

__all__ = ["encode_sq8", "knn", "radius", "simd_tier"]
