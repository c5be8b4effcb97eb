"""The documentation site: `make docs`. Files are found by pattern, listed in `index.md`, names by the stubs."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

import reference  # noqa: E402

import trainability  # noqa: E402

project = "trainability"
author = copyright = "The trainability developers"
version = release = trainability.__version__

# The source is the whole repository, so that links between its files hold on the site too.
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "docstrings",
    "links",
]
root_doc = "docs/index"
include_patterns = ["CHANGELOG.md", "docs/**", "theory/*.md", "notebooks/*.md"]
exclude_patterns = ["docs/figures/**", "docs/_build/**", "src", "tests", "benchmarks", "out", ".*"]

# Formulas
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_dmath_double_inline = True  # a claim runs on into its formula
myst_heading_anchors = 3

# Theory pages and notebooks run as in the tests, at the size written in them; what ran is kept.
nb_execution_mode = os.environ.get("DOCS_EXECUTION", "cache")
nb_execution_cache_path = str(ROOT / "out" / "docs-cache")
nb_execution_timeout = 900
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

# Blocks of code that name no language are commands.
highlight_language = "none"

# Docstrings
default_role = "code"
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
autodoc_typehints = "none"  # the docstrings give types, with shapes
autodoc_member_order = "bysource"
autosummary_generate = False
add_module_names = False
python_maximum_signature_line_length = 120

# Nothing on a page comes from another machine.
html_theme = "furo"
html_title = f"trainability {release}"
html_extra_path = ["redirect"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False


def setup(app):
    """Write the pages of the reference before they are looked for."""
    reference.write(ROOT, DOCS / "api")
