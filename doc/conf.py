"""Configuration of the documentation site: python -m sphinx -W doc doc/_build/html."""

import os
import re
import sys
from pathlib import Path

from sklearn_ann import __version__

DOC = Path(__file__).parent
sys.path.insert(0, str(DOC.parent / "benchmarks"))

from _report import RESULTS, read_table  # noqa: E402

project = "sklearn-ann-numba"
author = "The sklearn_ann developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "auto_examples/*.ipynb"]
source_suffix = {".rst": "restructuredtext"}
templates_path = ["_templates"]
# The included Markdown starts below its title.
suppress_warnings = ["myst.header"]

# Single backticks in the docstrings are names of parameters.
default_role = "literal"
nitpicky = False

# -- Figures of the benchmarks ---------------------------------------------------------

# Pages name what was measured, so that they cannot differ from the results.


def _figure(report, block, column, **where):
    """A cell of a table of the results, of the only row that is meant."""
    rows = read_table((RESULTS / f"{report}.md").read_text(encoding="utf-8"), block)
    (row,) = [row for row in rows if where.items() <= row.items()]
    return row[column]


def _figures():
    batch = {"queries": "1000", "threads": "2"}
    for data in "sentences", "sift":
        yield f"flat {data}", _figure("flat", "speed", "queries/s", data=data, **batch)
    yield (
        "single",
        _figure("flat", "speed", "ms", data="sift", queries="1", threads="1"),
    )
    for name, report, data, nlist in (
        ("lists sentences", "ivf_flat", "sentences", "50"),
        ("lists sift", "ivf_flat", "sift", "1024"),
        ("refined sift", "ivf_pq", "sift", "1024"),
    ):
        where = {"data": data, "nlist": nlist, "peer": "ours"}
        yield name, _figure(report, "recall", "queries/s", **where)
        yield f"{name} recall", _figure(report, "recall", "recall@10", **where)
    for data, m in ("sift", "8"), ("sift", "16"), ("sift", "32"), ("sentences", "96"):
        where = {"data": data, "m": m, "peer": "ours"}
        yield f"codes {data} {m}", _figure("ivf_pq", "own_recall", "mean", **where)


rst_prolog = "\n".join(f".. |{name}| replace:: {value}" for name, value in _figures())

# -- API pages ---------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"
# The template of a class lists the methods itself.
numpydoc_show_class_members = False

# -- Gallery -------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": str(DOC.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[/\\]plot_",
    # Other scripts of the folder are not part of the gallery.
    "ignore_pattern": r"(^|[/\\])(?!plot_)[^/\\]*\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_ann",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

# -- Links to other projects -----------------------------------------------------------

# They need the network while the site is built, so they are asked for.
if os.environ.get("SKLEARN_ANN_DOC_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }

# -- HTML ----------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-ann-numba"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "footer_end": [],
    "footer_start": ["copyright"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}


def _quote_fitted_names(app, what, name, obj, options, lines):
    """Names with a final underscore are not links: ``(n_features_in_,)`` in a type."""

    def quote(shape):
        return re.sub(r"(\w+_)(?=[,)])", r"`\1`", shape[0])

    lines[:] = [re.sub(r"of shape \([^)]*\)", quote, line) for line in lines]


def setup(app):
    # Before numpydoc takes the docstring apart.
    app.connect("autodoc-process-docstring", _quote_fitted_names, priority=100)
