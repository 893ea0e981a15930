"""Data sets for examples, tests and benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

__all__ = ["fetch_sentence_embeddings"]

_FOLDER = "sentence_embeddings_15K"
_BASE_URL = f"https://raw.githubusercontent.com/jamescalam/data/main/{_FOLDER}/"
_N_PARTS = 57
# Seconds to connect, so that a machine without a network learns it soon, and to read.
_TIMEOUT = (5, 30)
_REGISTRY = Path(__file__).with_name("_sentence_embeddings_sha256.txt")

_DESCRIPTION = """\
14,504 sentences from several sentence-similarity data sets, and for each a vector of
768 features computed by the model bert-base-nli-mean-tokens of sentence-transformers.
From the repository jamescalam/data, folder sentence_embeddings_15K; the data of the
article "Introduction to Facebook AI Similarity Search (Faiss)".
"""


@overload
def fetch_sentence_embeddings(
    data_home: str | os.PathLike[str] | None = ...,
    *,
    download_if_missing: bool = ...,
    return_X_y: Literal[False] = ...,
) -> Bunch: ...
@overload
def fetch_sentence_embeddings(
    data_home: str | os.PathLike[str] | None = ...,
    *,
    download_if_missing: bool = ...,
    return_X_y: Literal[True],
) -> tuple[NDArray[np.float32], NDArray[np.object_]]: ...
def fetch_sentence_embeddings(
    data_home: str | os.PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.object_]]:
    """Load the sentence embeddings 15K data set, downloading it if necessary.

    ================   =====================
    Samples              14,504
    Features             768, float32
    Size                 43 MiB in 58 files
    ================   =====================

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of data sets. The files are in, or go to, its subfolder
        `sentence_embeddings_15K`; if all are there they are used as they are. By
        default scikit-learn's, `~/scikit_learn_data` unless the environment variable
        `SCIKIT_LEARN_DATA` says otherwise.
    download_if_missing : bool, default=True
        Whether to download missing files, which needs the package pooch. Each is
        checked against a known SHA256 hash.
    return_X_y : bool, default=False
        Whether to return ``(data, sentences)`` instead of a Bunch.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of shape (14504, 768), float32
            One vector for each sentence.
        sentences : ndarray of shape (14504,), dtype object
            The sentences, as str.
        DESCR : str
            Description of the data set.

    Raises
    ------
    OSError
        If files are missing and may not, or cannot, be downloaded.

    Examples
    --------
    >>> from sklearn_ann.datasets import fetch_sentence_embeddings
    >>> dataset = fetch_sentence_embeddings()  # doctest: +SKIP
    >>> dataset.sentences[4586]  # doctest: +SKIP
    'A group of football players is running in the field'
    >>> dataset.data[4586, :2]  # doctest: +SKIP
    array([0.01627046, 0.22325929], dtype=float32)
    """
    folder = Path(get_data_home(data_home)) / _FOLDER
    names = [f"embeddings_{part}.npy" for part in range(_N_PARTS)] + ["sentences.txt"]
    if not all((folder / name).is_file() for name in names):
        if not download_if_missing:
            raise OSError(
                f"The sentence embeddings are not in {folder}. Pass "
                "download_if_missing=True, or the data_home whose subfolder "
                f"{_FOLDER} has them."
            )
        _download(folder, names)
    data = np.vstack([np.load(folder / name) for name in names[:-1]])
    text = (folder / names[-1]).read_text(encoding="utf-8")
    sentences = np.array(text.splitlines(), dtype=object)
    if return_X_y:
        return data, sentences
    return Bunch(data=data, sentences=sentences, DESCR=_DESCRIPTION)


def _download(folder, names):
    """Fetch the missing files, with one progress bar for all of them."""
    try:
        import pooch
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            "Downloading the sentence embeddings needs pooch and tqdm: "
            "pip install 'sklearn-ann-numba[datasets]'"
        ) from error
    repository = pooch.create(folder, _BASE_URL)
    repository.load_registry(_REGISTRY)
    for name in tqdm(names, desc="sentence embeddings", unit="file"):
        try:
            downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
            repository.fetch(name, downloader=downloader)
        except OSError as error:
            raise OSError(
                f"Could not download {_BASE_URL}{name}. If you have the files, put "
                f"them into {folder}, or pass the folder above that one as data_home. "
                f"The reason: {error}"
            ) from error
