"""The README and the pages like it keep what they promise."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import sklearn_ann

ROOT = Path(__file__).parents[1]


def read(name):
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} comes with the repository only")
    return path.read_text(encoding="utf-8")


def blocks(language):
    fenced = rf"```{language}\n(.*?)```"
    return re.findall(fenced, read("README.md"), flags=re.DOTALL)


# -- the example ---------------------------------------------------------------------


def test_the_example_prints_what_is_shown(run_script):
    (source,), (output,) = blocks("python"), blocks("text")
    assert len(source.splitlines()) == 8
    assert run_script(source) == output.strip()


def test_the_site_shows_the_same_example():
    (source,), (output,) = blocks("python"), blocks("text")
    shown = re.findall(r"^>>>(?: (.*))?$", read("doc/index.rst"), flags=re.MULTILINE)
    assert shown == source.splitlines()
    assert set(output.splitlines()) <= set(read("doc/index.rst").splitlines())


# -- claims --------------------------------------------------------------------------


def column(table, name):
    """The numbers of a column of a Markdown table; no number is None."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.strip().splitlines()
        if line.startswith("|")
    )
    cells = [row[head.index(name)] for row in rows]
    return [None if cell == "-" else float(cell.replace(",", "")) for cell in cells]


@pytest.mark.parametrize("name", ["README.md", "doc/index.rst"])
def test_every_case_that_was_measured_supports_the_claim(name):
    claim = r"at least (\d+) times .*brute force and (\d+) times faster than Faiss"
    (claimed,) = re.findall(claim, " ".join(read(name).split()))
    speed = read("benchmarks/results/flat.md").partition("## Speed")[2]
    speed = speed.partition("\n## ")[0]
    for bound, peer in zip(claimed, ["scikit-learn", "Faiss Flat"], strict=True):
        ratios = column(speed, f"x {peer}")
        assert len(ratios) >= 16
        assert min(ratios) >= int(bound)
    assert set(column(speed, "recall@10")) == {1.0}


def test_no_page_copies_figures_of_the_benchmarks():
    # The pages include them, so that they cannot differ.
    read("doc/index.rst")
    pages = [ROOT / "README.md", *(ROOT / "doc").rglob("*.rst")]
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"recall@10 .*\|? *x |queries/s", text), page


@pytest.mark.parametrize(("name", "n_tables"), [("benchmarks", 6), ("recall", 2)])
def test_the_tables_that_are_included_are_there(name, n_tables):
    page = read(f"doc/user_guide/{name}.rst")
    included = re.findall(
        r"include:: \.\./\.\./(\S+)\n.*\n"
        r" *:start-after: <!-- begin (\w+) -->\n *:end-before: <!-- end (\w+) -->\n",
        page,
    )
    assert len(included) == page.count(".. include::") >= n_tables
    for name, begin, end in included:
        assert begin == end
        table = read(name).partition(f"<!-- begin {begin} -->")[2]
        assert "\n| " in table.partition(f"<!-- end {end} -->")[0], (name, begin)


def test_what_has_not_run_on_a_gpu_is_called_experimental():
    if list((ROOT / "benchmarks" / "results").glob("gpu_acceptance.md")):
        pytest.skip("it has run on a GPU")
    pages = ("README.md", *(f"doc/{name}.rst" for name in ("index", "install", "api")))
    estimators = "FlatL2Neighbors", "IVFFlatNeighbors", "IVFPQNeighbors"
    texts = [
        *(read(name) for name in (*pages, "doc/user_guide/gpu.rst", "CHANGELOG.md")),
        *(getattr(sklearn_ann, name).__doc__ for name in estimators),
    ]
    for text in texts:
        sentences = re.split(r"(?<=[^.]\.)\s", text)
        first = next(line for line in sentences if "GPU" in line or "CUDA" in line)
        assert "experimental" in first


# -- maps ----------------------------------------------------------------------------


def files(folder):
    paths = Path(sklearn_ann.__file__).parent.joinpath(folder).glob("*.py")
    return {path.stem for path in paths} - {"__init__", "_version"}


def test_the_map_of_the_code_has_every_file():
    page = read("doc/developer/index.rst")
    listed = re.findall(r"^``([\w/]+)\.py``", page, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == files("") | {f"_cpu/{name}" for name in files("_cpu")}


@pytest.mark.parametrize("folder", ["_cpu", "_cuda"])
def test_the_diagram_of_a_backend_has_every_file(folder):
    source = Path(sklearn_ann.__file__).parent / folder / "__init__.py"
    diagram = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    assert files(folder) <= set(re.findall(r"\b_\w+", diagram))


# -- versions ------------------------------------------------------------------------


def test_the_versions_of_the_site_are_those_of_the_package():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    required = dict(line.split(">=") for line in project["dependencies"])
    required["python"] = project["requires-python"].removeprefix(">=")
    table = read("doc/install.rst").partition("oldest version")[2]
    rows = re.findall(r"^([\w-]+) +([\d.]+)$", table, flags=re.MULTILINE)
    assert {name.lower(): version for name, version in rows} == required
