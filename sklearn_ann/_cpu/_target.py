"""What the processor that LLVM generates code for can do."""

from __future__ import annotations

from sklearn_ann._cpu._numba import cpu_target


def target_features():
    """Names of the features that LLVM generates code for.

    What the processor could do besides is the wrong question: an instruction that the
    target lacks aborts the process.
    """
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return {name[1:] for name in features.split(",") if name.startswith("+")}
