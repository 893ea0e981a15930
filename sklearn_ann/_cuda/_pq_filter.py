"""The filter of codes: which rows can be neighbours, by the tables of their query.

A block has one query and 64 panels of its chain, a thread 16 rows of one of them. The
codes of a part lie side by side in a panel, so that a thread reads those of its rows at
once, and four threads the 64 bytes of a part, which are the sectors that memory has.

Entries are looked up in shared memory, where the lanes of a warp wait for each other
only if their codes are in the same bank, and elsewhere for each other's cache lines. It
holds 16 parts of a table of float32 at a time, or 32 of one of float16, and a thread
keeps its sums meanwhile, in float32: any number of parts is searched in the same way.
"""

from __future__ import annotations

import numpy as np

from sklearn_ann._cuda._candidates import append
from sklearn_ann._cuda._chains import panel_of_probe, probe_of_chain
from sklearn_ann._cuda._compat import (
    INFINITY,
    copy_wide,
    cuda,
    device,
    float16,
    float32,
    int32,
    kernel,
    load4,
)
from sklearn_ann._cuda._pq_codes import WORDS
from sklearn_ann._layout import CODEWORDS, PANEL

THREADS = 256

# Bytes of a table in shared memory, of which an SM has room for so many for each block
# that its threads allow.
_ROOM = 16 * 1024

# Up to so many parts, those that fit there at once, entries are float32; beyond it they
# are float16. That is an estimate: the lanes of a warp hit the same bank less often,
# a look-up takes 2.8 accesses instead of 3.2 if codes are random, and half as much is
# copied, for a conversion each and some more candidates. ``gpu_acceptance.py`` measures
# both.
MOST_FLOATS = _ROOM // (4 * CODEWORDS)

# Rows of a thread: the codes of a load of 16 bytes.
_ROWS = 16
_THREADS_OF_PANEL = PANEL // _ROWS

# Panels of a chain that a block visits.
PANELS_OF_BLOCK = THREADS // _THREADS_OF_PANEL


def table_dtype(m):
    """That of the entries of tables with m parts."""
    return np.dtype(np.float32 if m <= MOST_FLOATS else np.float16)


@device
def _add_entries(sums, first, entries, at, word):
    """Add the entries of four codes, the bytes of a word, to four sums."""
    sums[first] += float32(entries[at + (word & 255)])
    sums[first + 1] += float32(entries[at + (word >> 8 & 255)])
    sums[first + 2] += float32(entries[at + (word >> 16 & 255)])
    sums[first + 3] += float32(entries[at + (word >> 24 & 255)])


@device
def _add_parts(sums, entries, n_parts, codes, at):
    """Add the entries of some parts to the sums of 16 rows, with codes from `at` on."""
    for j in range(n_parts):
        w0, w1, w2, w3 = load4(codes, at + j * WORDS)
        _add_entries(sums, 0, entries, j * CODEWORDS, w0)
        _add_entries(sums, 4, entries, j * CODEWORDS, w1)
        _add_entries(sums, 8, entries, j * CODEWORDS, w2)
        _add_entries(sums, 12, entries, j * CODEWORDS, w3)


@device
def _copy_entries(tables, at, entries, n):
    """Copy n entries, from `at` on, to shared memory."""
    at_once = 16 // entries.itemsize
    for i in range(cuda.threadIdx.x * at_once, n, THREADS * at_once):
        copy_wide(tables, at + i, entries, i)


def _make_sum_up(entry, n_entries):
    """What sums up entries of a type, of which so many are in shared memory."""
    most_parts = n_entries // CODEWORDS

    @device
    def sum_up(tables, m, codes, query, panel, quad, is_there, sums):
        """The sums of a thread; all threads of the block copy the table of the query.

        A thread that has no panel only copies.
        """
        entries = cuda.shared.array(n_entries, entry, alignment=16)
        for i in range(_ROWS):
            sums[i] = float32(0)
        for part in range(0, m, most_parts):
            n_parts = min(most_parts, m - part)
            table_at = (query * m + part) * CODEWORDS
            cuda.syncthreads()
            _copy_entries(tables, table_at, entries, n_parts * CODEWORDS)
            cuda.syncthreads()
            if is_there:
                codes_at = (panel * m + part) * WORDS + quad
                _add_parts(sums, entries, n_parts, codes, codes_at)

    return sum_up


def _make_filter(sum_up):
    """The filter of codes for tables whose entries are summed up so."""

    @kernel(launch_bounds=THREADS)
    def filter_codes(
        tables,      # IN    (n * m * 256,)    entry    see ``_pq_tables``
        scales,      # IN    (n,)              float32  what entries are multiplied by
        m,           # IN    int               parts
        codes,       # IN    (n_panels * m * 16,)  int32  four codes of a part each
        row_terms,   # IN    (n_panels * 64,)  float32  +inf: no row
        shifts,      # IN    (n, nprobe)       float32  of each list a query probes
        thresholds,  # IN    (n,)              float32  NaN: nothing is a candidate
        panels,      # IN    (n_panels,)       int32    see Chains
        offsets,     # IN    (nlist + 1,)      int64
        probes,      # IN    (n, nprobe)       int32
        ends,        # IN    (n, nprobe)       int32
        first,       # IN    int               panels of the chains: block (x, y)
        last,        # IN    int               takes 64 for query x
        starts,      # IN    (n + 1,)          int64
        counts,      # INOUT (n,)              int32
        lowers,      # OUT   (n_candidates,)   float32
        uppers,      # OUT   (n_candidates,)   float32
        positions,   # OUT   (n_candidates,)   int32
    ):
        sums = cuda.local.array(_ROWS, float32)
        query, t = cuda.blockIdx.x, cuda.threadIdx.x
        visited = first + cuda.blockIdx.y * PANELS_OF_BLOCK + t // _THREADS_OF_PANEL
        quad = t % _THREADS_OF_PANEL * 4
        probe, panel = -1, int32(0)
        if visited < last:
            probe = probe_of_chain(ends, query, visited)
        if probe >= 0:
            panel = panel_of_probe(panels, offsets, probes, ends, query, probe, visited)
        sum_up(tables, m, codes, query, panel, quad, probe >= 0, sums)
        if probe >= 0:
            threshold, shift = thresholds[query], shifts[query, probe]
            unit = float32(1) / scales[query]
            for i in range(0, _ROWS, 4):
                position = panel * PANEL + quad * 4 + i
                of_rows = load4(row_terms, position)
                for row in range(4):
                    value = (shift + of_rows[row]) + sums[i + row] * unit
                    if value <= threshold and of_rows[row] < INFINITY:
                        # It is both bounds, but for an error of the query.
                        append(
                            query, position + row, value, value,
                            starts, counts, lowers, uppers, positions,
                        )  # fmt: skip

    return filter_codes


FILTERS = {
    np.dtype(np.float32): _make_filter(_make_sum_up(float32, _ROOM // 4)),
    np.dtype(np.float16): _make_filter(_make_sum_up(float16, _ROOM // 2)),
}
