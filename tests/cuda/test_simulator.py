"""The simulator finds the mistakes that it is there to find."""

import cuda_lane
import numpy as np
import pytest
from numba import cuda, float32, int32, int64

if not cuda_lane.SIMULATED:
    pytest.skip("tests of the simulator itself", allow_module_level=True)

from cuda_simulator import SimDeadlock

FULL = 0xFFFFFFFF
EACH_ORDER = pytest.mark.parametrize("order", cuda_lane.ORDERS)


def run(kernel, grid, block, *args, order="forward"):
    cuda_lane.set_order(order)
    cuda.jit(kernel)[grid, block](*args)


# -- what works on a device works here -----------------------------------------------


def block_sum(values, total):
    partial = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    partial[t] = values[cuda.blockIdx.x * 64 + t]
    width = 32
    while width > 0:
        cuda.syncthreads()
        if t < width:
            partial[t] += partial[t + width]
        width >>= 1
    if t == 0:
        cuda.atomic.add(total, 0, partial[0])


@EACH_ORDER
def test_blocks_add_up(order):
    values, total = np.arange(192, dtype=np.float32), np.zeros(1, np.float32)
    run(block_sum, 3, 64, values, total, order=order)
    assert total[0] == values.sum()


def warp_sums(values, sums, counts):
    lane = cuda.laneid
    value = values[cuda.grid(1)]
    n_odd = cuda.popc(cuda.ballot_sync(FULL, value % 2))
    offset = 16
    while offset > 0:
        value += cuda.shfl_xor_sync(FULL, value, offset)
        offset >>= 1
    sums[cuda.grid(1)] = value
    if lane < 4:
        first = cuda.shfl_sync(0xF, value, 0)
        counts[cuda.grid(1) // 32, lane] = n_odd + (first - value)


@EACH_ORDER
def test_warps_shuffle_and_vote(order):
    values = np.random.default_rng(0).integers(0, 9, 96)
    sums, counts = np.zeros(96, np.int64), np.zeros((3, 4), np.int64)
    run(warp_sums, 1, 96, values, sums, counts, order=order)
    warps = values.reshape(3, 32)
    np.testing.assert_array_equal(sums, np.repeat(warps.sum(axis=1), 32))
    np.testing.assert_array_equal(
        counts, np.tile((warps % 2).sum(axis=1)[:, None], (1, 4))
    )


def shuffles(out):
    lane = cuda.laneid
    out[0, lane] = cuda.shfl_up_sync(FULL, lane, 2)
    out[1, lane] = cuda.shfl_down_sync(FULL, lane, 3)
    out[2, lane] = cuda.shfl_xor_sync(FULL, lane, 5)
    out[3, lane] = cuda.shfl_sync(FULL, lane, 7)
    out[4, lane] = cuda.match_any_sync(FULL, lane % 2)


@EACH_ORDER
def test_shuffles_move_values_as_cuda_defines(order):
    out, lanes = np.zeros((5, 32), np.int64), np.arange(32)
    run(shuffles, 1, 32, out, order=order)
    np.testing.assert_array_equal(out[0], np.where(lanes < 2, lanes, lanes - 2))
    np.testing.assert_array_equal(out[1], np.where(lanes > 28, lanes, lanes + 3))
    np.testing.assert_array_equal(out[2], lanes ^ 5)
    np.testing.assert_array_equal(out[3], 7)
    np.testing.assert_array_equal(out[4], np.where(lanes % 2, 0xAAAAAAAA, 0x55555555))


def votes(out):
    lane = cuda.laneid
    out[0, lane] = cuda.all_sync(FULL, lane < 32) and not cuda.all_sync(FULL, lane)
    out[1, lane] = cuda.any_sync(FULL, lane == 9) and not cuda.any_sync(FULL, lane > 40)
    out[2, lane] = cuda.ballot_sync(FULL, True) == -1
    out[3, lane] = cuda.syncthreads_count(lane < 5) == 5
    out[4, lane] = cuda.syncthreads_or(lane == 3) + cuda.syncthreads_and(lane == 3) == 1
    out[5, lane] = cuda.ffs(int32(-8)) == 4 and cuda.clz(1) == 31
    out[6, lane] = cuda.eq_sync(FULL, 3) and not cuda.eq_sync(FULL, lane)
    out[7, lane] = cuda.ffs(int64(1) << 40) == 41 and cuda.ffs(int64(-(2**63))) == 64


def test_votes_and_counts():
    out = np.zeros((8, 32), np.int64)
    run(votes, 1, 32, out)
    np.testing.assert_array_equal(out, 1)


# -- planted mistakes ----------------------------------------------------------------


def missing_barrier(values, out):
    shared = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    shared[t] = values[t]
    out[t] = shared[63 - t]


@EACH_ORDER
def test_a_missing_barrier_gives_wrong_answers(order):
    values, out = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    run(missing_barrier, 1, 64, values, out, order=order)
    assert (out != values[::-1]).any()


def missing_second_barrier(values, out):
    shared = cuda.shared.array(1, float32)
    for i in range(3):
        if cuda.threadIdx.x == 0:
            shared[0] = values[i]
        cuda.syncthreads()
        out[i, cuda.threadIdx.x] = shared[0]


def test_some_order_shows_a_value_overwritten_too_early():
    values, wrong = np.arange(3, dtype=np.float32), []
    for order in cuda_lane.ORDERS:
        out = np.zeros((3, 32), np.float32)
        run(missing_second_barrier, 1, 32, values, out, order=order)
        wrong.append((out != values[:, None]).any())
    assert any(wrong)


def blocks_in_order(out):
    out[0] = cuda.blockIdx.x


def test_answers_that_depend_on_the_order_of_blocks_differ():
    found = set()
    for order in cuda_lane.ORDERS:
        out = np.zeros(1)
        run(blocks_in_order, 7, 1, out, order=order)
        found.add(out[0])
    assert {0, 6} < found


def reads_beyond_the_end(values, out):
    out[0] = values[64]


def reads_before_the_start(values, out):
    out[0] = values[cuda.threadIdx.x - 1]


def reads_before_the_start_of_shared_memory(values, out):
    shared = cuda.shared.array((2, 4), float32)
    out[0] = shared[1, cuda.threadIdx.x - 1]


def writes_beyond_the_end_of_local_memory(values, out):
    local = cuda.local.array(4, float32)
    local[4] = out[0]


@pytest.mark.parametrize(
    "kernel",
    [
        reads_beyond_the_end,
        reads_before_the_start,
        reads_before_the_start_of_shared_memory,
        writes_beyond_the_end_of_local_memory,
    ],
)
def test_an_index_out_of_bounds_is_an_error_that_names_the_thread(kernel):
    with pytest.raises(IndexError) as info:
        run(kernel, 1, 1, np.zeros(64), np.zeros(1))
    assert info.value.__notes__ == ["in thread 0 of block (0, 0, 0)"]


def barrier_for_some(out):
    if cuda.threadIdx.x < 32:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def barrier_after_the_end_of_some(out):
    if cuda.threadIdx.x < 32:
        return
    cuda.syncthreads()


def shuffle_without_all_lanes(out):
    if cuda.laneid < 16:
        out[0] = cuda.shfl_sync(FULL, 1, 0)


def shuffle_from_an_absent_lane(out):
    if cuda.laneid < 16:
        out[0] = cuda.shfl_sync(0xFFFF, 1, 20)


def shuffle_outside_of_its_mask(out):
    out[0] = cuda.shfl_sync(0xFFFF, 1, 0)


def warp_waits_while_block_waits(out):
    if cuda.threadIdx.x == 3:
        cuda.syncthreads()
    else:
        cuda.syncwarp()


def asks_for_the_active_mask(out):
    out[0] = cuda.activemask()


@EACH_ORDER
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (barrier_for_some, "different barriers"),
        (barrier_after_the_end_of_some, "have ended"),
        (shuffle_without_all_lanes, "nobody can go on"),
        (shuffle_from_an_absent_lane, "lane 20, which is absent"),
        (shuffle_outside_of_its_mask, "not in its own mask"),
        (warp_waits_while_block_waits, "nobody can go on"),
        (asks_for_the_active_mask, "name the lanes"),
    ],
)
def test_threads_that_wait_in_vain_are_an_error(kernel, message, order):
    with pytest.raises(SimDeadlock, match=message):
        run(kernel, 1, 64, np.zeros(1), order=order)


def test_the_simulator_works_after_an_error():
    with pytest.raises(SimDeadlock):
        run(barrier_for_some, 1, 64, np.zeros(1))
    out = np.zeros(1)
    run(blocks_in_order, 2, 1, out)
    assert out[0] == 1


# -- memory that nobody has written to -----------------------------------------------


def reads_what_nobody_wrote(out):
    shared = cuda.shared.array(4, float32)
    local = cuda.local.array(4, float32)
    if cuda.blockIdx.x == 0:
        shared[0] = 1
        local[0] = 1
    else:
        out[0] = shared[0]
        out[1] = local[0]


def test_memory_holds_garbage_at_first():
    garbage = np.full(4, 0xA5, np.uint8).view(np.float32)[0]
    out = np.zeros(2, np.float32)
    run(reads_what_nobody_wrote, 2, 1, out)
    np.testing.assert_array_equal(out, garbage)
    np.testing.assert_array_equal(
        cuda.device_array((2, 3), np.float32).copy_to_host(), garbage
    )
