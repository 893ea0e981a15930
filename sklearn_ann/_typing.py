"""Types of public signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


class CudaArray(Protocol):
    """An array on a GPU, of any library."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class Memory(Protocol):
    """Keeps what functions return, as ``joblib.Memory`` does."""

    def cache(self, func: Callable[..., Any]) -> Callable[..., Any]: ...


Vectors: TypeAlias = ArrayLike | CudaArray
Distances: TypeAlias = NDArray[np.float64]
Ids: TypeAlias = NDArray[np.int64]

# Arrays of one length for each query.
Ragged: TypeAlias = NDArray[np.object_]

Metric: TypeAlias = Literal["euclidean", "sqeuclidean", "cosine"]
Mode: TypeAlias = Literal["connectivity", "distance"]
RandomState: TypeAlias = int | np.random.RandomState | None
