"""The filter of codes: which rows can be neighbours, by the tables of their query.

A block has one query and 64 panels of its chain, a thread 16 rows of one of them. The
codes of a part lie side by side in a panel, so that a thread reads those of its rows at
once, and four threads the 64 bytes of a part, which are the sectors that memory has.

Entries are looked up in shared memory, where the lanes of a warp wait for each other
only if their codes are in the same bank, and elsewhere for each other's cache lines. It
holds 16 parts of the table at a time, and a thread keeps its sums meanwhile: any number
of parts is searched in the same way, and always by floats.
"""

from __future__ import annotations

import math

from sklearn_ann._cuda._compat import (
    cuda,
    device,
    float32,
    int32,
    kernel,
    load4,
)
from sklearn_ann._cuda._pq_codes import WORDS
from sklearn_ann._cuda._routes import panel_of_probe, probe_of_chain
from sklearn_ann._layout import CODEWORDS, PANEL

THREADS = 256

# Parts of a table in shared memory: 16 KB, of which an SM has room for one for each
# block that its threads allow.
_PARTS = 16
ENTRIES = _PARTS * CODEWORDS

# Rows of a thread: the codes of a load of 16 bytes.
_ROWS = 16
_THREADS_OF_PANEL = PANEL // _ROWS

# Panels of a chain that a block visits.
PANELS_OF_BLOCK = THREADS // _THREADS_OF_PANEL

INFINITY = float32(math.inf)


@device
def _add_entries(sums, first, entries, at, word):
    """Add the entries of four codes, the bytes of a word, to four sums."""
    sums[first] += entries[at + (word & 255)]
    sums[first + 1] += entries[at + (word >> 8 & 255)]
    sums[first + 2] += entries[at + (word >> 16 & 255)]
    sums[first + 3] += entries[at + (word >> 24 & 255)]


@kernel
def filter_codes(
    tables,      # IN    (n * m * 256,)    float32  see ``_pq_tables``
    m,           # IN    int               parts
    codes,       # IN    (n_panels * m * 16,)  int32  four codes of a part each
    terms,       # IN    (n_panels * 64,)  float32  +inf: no row
    shifts,      # IN    (n, nprobe)       float32  of each list that a query probes
    thresholds,  # IN    (n,)              float32  NaN: nothing is a candidate
    panels,      # IN    (n_panels,)       int32    see Chains
    offsets,     # IN    (nlist + 1,)      int64
    probes,      # IN    (n, nprobe)       int32
    ends,        # IN    (n, nprobe)       int32
    first,       # IN    int               panels of the chains: block (x, y) takes 64
    last,        # IN    int               for query x
    starts,      # IN    (n + 1,)          int64
    counts,      # INOUT (n,)              int32
    lows,        # OUT   (n_candidates,)   float32
    uppers,      # OUT   (n_candidates,)   float32
    places,      # OUT   (n_candidates,)   int32
):
    entries = cuda.shared.array(ENTRIES, float32)
    sums = cuda.local.array(_ROWS, float32)
    query, t = cuda.blockIdx.x, cuda.threadIdx.x
    visited = first + cuda.blockIdx.y * PANELS_OF_BLOCK + t // _THREADS_OF_PANEL
    quad = t % _THREADS_OF_PANEL * 4
    probe, panel = -1, int32(0)
    if visited < last:
        probe = probe_of_chain(ends, query, visited)
    if probe >= 0:
        panel = panel_of_probe(panels, offsets, probes, ends, query, probe, visited)
    for i in range(_ROWS):
        sums[i] = float32(0)
    for part in range(0, m, _PARTS):
        n_parts = min(_PARTS, m - part)
        cuda.syncthreads()
        table_at = (query * m + part) * CODEWORDS
        for item in range(4 * t, n_parts * CODEWORDS, 4 * THREADS):
            four = load4(tables, table_at + item)
            for i in range(4):
                entries[item + i] = four[i]
        cuda.syncthreads()
        if probe >= 0:
            at = (panel * m + part) * WORDS + quad
            for j in range(n_parts):
                w0, w1, w2, w3 = load4(codes, at + j * WORDS)
                _add_entries(sums, 0, entries, j * CODEWORDS, w0)
                _add_entries(sums, 4, entries, j * CODEWORDS, w1)
                _add_entries(sums, 8, entries, j * CODEWORDS, w2)
                _add_entries(sums, 12, entries, j * CODEWORDS, w3)
    if probe >= 0:
        threshold, shift = thresholds[query], shifts[query, probe]
        for i in range(0, _ROWS, 4):
            first_place = panel * PANEL + quad * 4 + i
            of_rows = load4(terms, first_place)
            for row in range(4):
                value = (shift + of_rows[row]) + sums[i + row]
                if value <= threshold and of_rows[row] < INFINITY:
                    slot = starts[query] + cuda.atomic.add(counts, query, 1)
                    if slot < starts[query + 1]:
                        lows[slot], uppers[slot] = value, value
                        places[slot] = first_place + row
