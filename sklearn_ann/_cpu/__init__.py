"""The operations of the seam on the CPU, compiled by Numba on first use.

Who calls whom: ``_sq8_*`` is the filter with 8-bit codes, ``_pq_*`` product
quantization; files without a family are an operation of the seam, or serve all::

    operation       queries          filter and codes      vector instructions

    _ivf_flat
      |-> _knn ---+----------------> _sq8_candidates
      |           |                    |
      |-> _radius +----------------> _sq8_filter ------+-> _sq8_simd
                  +-> _sq8_block --> _sq8_codes -------|-> _sq8_quantize
                  |                                    |-> _sq8_project
    _kmeans ------+------------------------------------+

    _ivf_pq --------> _pq_block ---> _pq_codes ----------> _pq_codewords
      |----------------------------> _pq_tables -------+-> _pq_codewords
      +------------------------------------------------+-> _pq_simd

    _refine, _duplicates --------------------------------> _distance

    what searches share     _schedule, _lists, _candidates, _topk
    what bounds share       _rounding
    arrays they make        _arrays
    vector instructions     _distance, _bits; written with _ir
    tuples by pointer       _borrow
    compiling and running   _jit, _cache, _compiling, _target, _threads; Numba's
                            inside: _numba
"""

from sklearn_ann._cpu._cache import cache_folder
from sklearn_ann._cpu._compiling import compilation
from sklearn_ann._cpu._duplicates import rank_duplicates
from sklearn_ann._cpu._ivf_flat import radius_ivf_flat, scan_ivf_flat
from sklearn_ann._cpu._ivf_pq import (
    candidates_ivf_pq,
    radius_ivf_pq,
    scan_ivf_pq,
)
from sklearn_ann._cpu._kmeans import accumulate_clusters, assign, encode_training_rows
from sklearn_ann._cpu._knn import knn
from sklearn_ann._cpu._pq_codes import (
    accumulate_codewords,
    decode_rows,
    encode_pq,
    place_pq,
)
from sklearn_ann._cpu._radius import radius
from sklearn_ann._cpu._refine import refine
from sklearn_ann._cpu._sq8_codes import encode_sq8
from sklearn_ann._cpu._sq8_simd import simd_tier

__all__ = [
    "accumulate_clusters",
    "accumulate_codewords",
    "assign",
    "cache_folder",
    "candidates_ivf_pq",
    "compilation",
    "decode_rows",
    "encode_pq",
    "encode_sq8",
    "encode_training_rows",
    "knn",
    "place_pq",
    "radius",
    "radius_ivf_flat",
    "radius_ivf_pq",
    "rank_duplicates",
    "refine",
    "scan_ivf_flat",
    "scan_ivf_pq",
    "simd_tier",
]
