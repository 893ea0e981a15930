"""Kernels that only read, multiply or look up. Importing them needs numba-cuda."""

from sklearn_ann._cuda._compat import cuda, float32, kernel, load4

# Multiply-adds of a step for each of eight numbers that do not wait for each other: as
# many as the compiler unrolls, 128 of the 134 instructions of the loop.
LINKS = 16
FLOP_A_STEP = 2 * 8 * LINKS

# Look-ups of a step, 32 floats from one to the next, from a place among 1024 on.
LOOK_UPS_A_STEP = 16
_ENTRIES = 1024 + 32 * LOOK_UPS_A_STEP


@kernel
def read(x, sums):
    """Add up x, float32, 16 bytes at a time; a sum for each thread, so all is read."""
    thread = cuda.grid(1)
    total = float32(0)
    for i in range(4 * thread, x.shape[0], 4 * sums.shape[0]):
        x0, x1, x2, x3 = load4(x, i)
        total += (x0 + x1) + (x2 + x3)
    sums[thread] = total


@kernel
def multiply(n_steps, sums):
    """Multiply and add in the registers of each thread."""
    thread = cuda.grid(1)
    x = sums[thread] + float32(0.5)
    a, b, c, d = x, x + float32(1), x + float32(2), x + float32(3)
    e, f, g, h = -a, -b, -c, -d
    for _ in range(n_steps):
        for _ in range(LINKS):
            a, b, c, d = a * x + x, b * x + x, c * x + x, d * x + x
            e, f, g, h = e * x + x, f * x + x, g * x + x, h * x + x
    sums[thread] = ((a + b) + (c + d)) + ((e + f) + (g + h))


@kernel
def look_up(n_steps, sums):
    """Add up floats of shared memory; the lanes of a warp read from different banks."""
    entries = cuda.shared.array(_ENTRIES, float32)
    thread, t = cuda.grid(1), cuda.threadIdx.x
    for i in range(t, _ENTRIES, cuda.blockDim.x):
        entries[i] = sums[thread]
    cuda.syncthreads()
    a, b, at = float32(0), float32(0), t
    for _ in range(n_steps):
        # Elsewhere in each step, or the compiler would look up once.
        at = (at + 33) & 1023
        for i in range(0, LOOK_UPS_A_STEP, 2):
            a += entries[at + 32 * i]
            b += entries[at + 32 * (i + 1)]
    sums[thread] = a + b
