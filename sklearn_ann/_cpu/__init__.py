"""The operations of the seam on the CPU, compiled by Numba on first use.

Files of one family carry its name: ``_sq8_*`` the filter with 8-bit codes, ``_pq_*``
product quantization. Files without one belong to an operation or to all::

    operations      knn    radius    ivf_flat    kmeans        ivf_pq        refine
                     |        |       |     |       |             |             |
                     |        | <-----+     |       |             |             |
                     | <----- | ------------+       |             |             |
                     v        v                     v             v             |
    queries         _sq8_block: SQ8Block      (block only)   _pq_block: PQBlock |
                     |        |                     |             |             |
    filters         _sq8_filter: panels, bounds     |        _pq_tables: tables |
                     |                              |             |             |
    codes           _sq8_codes: encode_sq8          |        _pq_codes: encode, |
                     |                              |        place, decode      |
                     |                              |             |             |
    instructions    _sq8_simd, _sq8_quantize  <-----+        _pq_simd,          |
                                                             _pq_codewords      |

    who searches for what     _schedule (threads, blocks)  _lists (probes by list)
    what stays                _candidates (room)  _topk (the k smallest)
    exactly                   _distance (sqdist)  _rounding (in favour of a row)
    apart                     _duplicates (identical rows)
    at the bottom             _threads  _jit  _cache  _target  _bits  _ir  _numba
"""

from sklearn_ann._cpu._duplicates import rank_duplicates
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
from sklearn_ann._cpu._sq8_codes import encode_sq8
from sklearn_ann._cpu._sq8_simd import simd_tier

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
    "rank_duplicates",
    "refine",
    "scan_ivf_flat",
    "scan_ivf_pq",
    "simd_tier",
]
