"""A fork waits for what its child could not finish."""

import os

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no fork"
)

# The child has 20 seconds; the signal of the alarm ends it then.
_FORK = """
def fork(work):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

_WHILE_COMPILING = """
import os
import signal
import threading
import time
from numba import types
from numba.extending import intrinsic
from sklearn_ann._cpu._jit import jit

is_compiling = threading.Event()

@intrinsic
def wait(typingctx):
    is_compiling.set()
    time.sleep(1)
    return types.none(), lambda context, *_: context.get_dummy_value()

@jit
def kernel():
    wait()

thread = threading.Thread(target=kernel)
thread.start()
assert is_compiling.wait(30)
print(fork(lambda: jit(lambda x: x)(3.0)))
thread.join()
# The locks are free again.
print(fork(lambda: jit(lambda: 1)()))
thread = threading.Thread(target=jit(lambda: 2), daemon=True)
thread.start()
thread.join(20)
print(thread.is_alive())
"""


def test_a_fork_while_another_thread_compiles(run_script):
    assert run_script(_FORK + _WHILE_COMPILING).split() == ["0", "0", "False"]


_WHILE_LLVM_WORKS = """
import os
import signal
import threading
import time
import llvmlite.binding as llvm
from sklearn_ann._cpu._jit import jit

functions = (f"define i32 @f{i}() {{\\n ret i32 {i}\\n}}" for i in range(20_000))
text = "\\n".join(functions)

def work():
    while True:
        llvm.parse_assembly(text)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
for _ in range(3):
    print(fork(lambda: jit(lambda x: x)(3.0)))
"""


def test_a_fork_while_another_thread_uses_llvm(run_script):
    assert run_script(_FORK + _WHILE_LLVM_WORKS).split() == ["0", "0", "0"]


_WHILE_IMPORTING = """
import os
import signal
import sys
import threading
import time
import numpy as np
from sklearn_ann import FlatL2Neighbors

X = np.arange(10.0)[:, None]

def work():
    FlatL2Neighbors().fit(X)

thread = threading.Thread(target=work)
thread.start()
while sys.argv[1] not in sys.modules:
    time.sleep(0.001)
print(fork(work))
thread.join()
"""


@pytest.mark.parametrize("module", ["numba", "sklearn_ann._cpu._cache"])
def test_a_fork_while_another_thread_imports_the_kernels(module, run_script):
    assert run_script(_FORK + _WHILE_IMPORTING, module) == "0"


_MANY_THREADS_FORK = """
import os
import signal
import threading
from sklearn_ann._forks import hold_over_forks

lock = threading.RLock()
hold_over_forks(lock)
codes = []

def work():
    for _ in range(20):
        with lock:
            pass
        codes.append(fork(lambda: lock.acquire()))

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
print(codes == [0] * 80, lock.acquire(blocking=False))
"""


def test_threads_that_fork_side_by_side(run_script):
    assert run_script(_FORK + _MANY_THREADS_FORK) == "True True"
