"""Reading, finding and downloading the sentence embeddings."""

import hashlib
import importlib.util
import shutil
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ann import datasets
from sklearn_ann.datasets import fetch_sentence_embeddings

FOLDER = "sentence_embeddings_15K"
# Two digits: part 10 comes after part 9.
N_PARTS = 11
SENTENCES = [f"Sentence {number}, naïve." for number in range(2 * N_PARTS)]


@pytest.fixture
def few_parts(monkeypatch):
    monkeypatch.setattr(datasets, "_N_PARTS", N_PARTS)


@pytest.fixture
def stored(tmp_path, few_parts):
    """A folder of data sets with a small version of ours in it."""
    folder = tmp_path / "stored" / FOLDER
    folder.mkdir(parents=True)
    for part in range(N_PARTS):
        rows = np.arange(2 * part, 2 * part + 2)
        np.save(folder / f"embeddings_{part}.npy", np.float32([[i, -i] for i in rows]))
    text = "".join(f"{sentence}\n" for sentence in SENTENCES)
    (folder / "sentences.txt").write_text(text, encoding="utf-8")
    return folder.parent


def assert_is_stored(data, sentences):
    numbers = np.arange(2 * N_PARTS, dtype=np.float32)
    assert_array_equal(data, np.stack([numbers, -numbers], axis=1), strict=True)
    assert sentences.dtype == object
    assert sentences.tolist() == SENTENCES


def test_files_that_are_there_are_read_in_order(stored):
    for home in (stored, str(stored)):
        bunch = fetch_sentence_embeddings(home, download_if_missing=False)
        assert_is_stored(bunch.data, bunch.sentences)
        assert "bert-base-nli-mean-tokens" in bunch.DESCR


def test_return_X_y(stored):
    assert_is_stored(*fetch_sentence_embeddings(stored, return_X_y=True))


def test_the_folder_is_the_one_of_scikit_learn(stored, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(stored))
    assert_is_stored(*fetch_sentence_embeddings(return_X_y=True))


@pytest.mark.parametrize("missing", ["sentences.txt", "embeddings_10.npy"])
def test_a_missing_file_is_an_error_that_names_the_folder(stored, missing):
    (stored / FOLDER / missing).unlink()
    with pytest.raises(OSError, match="download_if_missing=True") as info:
        fetch_sentence_embeddings(stored, download_if_missing=False)
    assert str(stored / FOLDER) in str(info.value)


# -- downloading ---------------------------------------------------------------------


@pytest.fixture
def download_from_stored(stored, tmp_path, monkeypatch):
    """Downloads are copies from the folder `stored`."""
    pooch = pytest.importorskip("pooch", reason="downloading needs pooch")
    pytest.importorskip("tqdm", reason="downloading needs tqdm")

    def download(url, output_file, pooch):
        shutil.copyfile(stored / FOLDER / url.rpartition("/")[2], output_file)

    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **options: download)
    hashes = [
        f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in (stored / FOLDER).iterdir()
    ]
    registry = tmp_path / "registry.txt"
    registry.write_text("".join(hashes))
    monkeypatch.setattr(datasets, "_REGISTRY", registry)


def test_missing_files_are_downloaded_once(download_from_stored, stored, tmp_path):
    home = tmp_path / "home"
    assert_is_stored(*fetch_sentence_embeddings(home, return_X_y=True))
    (stored / FOLDER / "sentences.txt").unlink()
    assert_is_stored(*fetch_sentence_embeddings(home, return_X_y=True))


def test_a_failed_download_names_url_and_folder(download_from_stored, stored, tmp_path):
    (stored / FOLDER / "embeddings_3.npy").unlink()
    with pytest.raises(OSError, match=r"https://.*/embeddings_3\.npy") as info:
        fetch_sentence_embeddings(tmp_path / "home")
    assert str(tmp_path / "home" / FOLDER) in str(info.value)


def test_an_unreachable_host_is_an_error_at_once(few_parts, tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch", reason="downloading needs pooch")
    pytest.importorskip("tqdm", reason="downloading needs tqdm")
    downloader, timeouts = pooch.HTTPDownloader, []

    def record(timeout):
        timeouts.append(timeout)
        return downloader(timeout=timeout)

    # Nothing answers at this port, and no proxy is asked.
    monkeypatch.setattr(datasets, "_BASE_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "HTTPDownloader", record)
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/embeddings_0\.npy"):
        fetch_sentence_embeddings(tmp_path)
    # A network that drops what is sent to it costs seconds, once.
    ((connect, read),) = timeouts
    assert connect <= 5 < read


def test_a_file_that_was_tampered_with_is_refused(
    download_from_stored, stored, tmp_path
):
    (stored / FOLDER / "embeddings_3.npy").write_bytes(b"something else")
    with pytest.raises((ValueError, OSError), match="hash"):
        fetch_sentence_embeddings(tmp_path / "home")
    assert not (tmp_path / "home" / FOLDER / "embeddings_3.npy").exists()


def test_without_pooch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"sklearn-ann-numba\[datasets\]"):
        fetch_sentence_embeddings(tmp_path)


def test_importing_the_module_needs_no_extra():
    source = importlib.util.find_spec("sklearn_ann.datasets").origin
    with open(source, encoding="utf-8") as file:
        head = file.read().partition("\ndef ")[0]
    assert "import pooch" not in head


def test_the_registry_has_a_hash_for_every_file():
    lines = datasets._REGISTRY.read_text().replace("sha256:", "").splitlines()
    hashes = dict(line.split() for line in lines if line)
    parts = {f"embeddings_{part}.npy" for part in range(57)}
    assert set(hashes) == parts | {"sentences.txt"}
    assert all(len(bytes.fromhex(value)) == 32 for value in hashes.values())


def test_the_registry_has_the_hashes_of_the_data(data_folder):
    for line in datasets._REGISTRY.read_text().splitlines():
        name, expected = line.replace("sha256:", "").split()
        content = (data_folder / FOLDER / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected, name
