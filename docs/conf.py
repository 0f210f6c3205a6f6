"""How the documentation is built: ``sphinx-build -W -n docs docs/_build/html``."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from sphinx.pycode import ModuleAnalyzer


if TYPE_CHECKING:
    from sphinx.application import Sphinx


project = "aura-context"
author = "The aura_context authors"
project_copyright = author
try:
    release = metadata.version("aura-context")
except metadata.PackageNotFoundError:  # built from a checkout that is not installed
    release = "dev"
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxext.opengraph",
]

source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]
# Docstrings quote code with single backticks.
default_role = "code"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# The first page links to the sources, which viewcode writes as pages of no document.
myst_url_schemes = {
    "http": None,
    "https": None,
    "mailto": None,
    "source": "_modules/{{path}}.html",
}

# The build needs no network: the inventory is a copy of what CPython publishes beside
# its documentation, as objects.inv.
intersphinx_mapping = {"python": ("https://docs.python.org/3", "python.inv")}

copybutton_exclude = ".linenos, .gp, .go"

ogp_site_name = project
ogp_social_cards = {"enable": False}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# It has no page. With it, a signature that names its `args` is shown as it is written.
autodoc_type_aliases = {"P": "P"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
nitpick_ignore_regex = [
    # Type variables have no page.
    (r"py:class", r"(aura_context\.\w+\.)?[FPRT]|P\.(kw)?args"),
    (r"py:class", r"celery\..+"),
    # Where a signature is shown as it is written, autodoc cannot tell where from.
    (r"py:class", r"Future"),
    # Documented under another name than the one that the class says it has.
    (r"py:class", r"concurrent\.futures\.(_base|thread)\.\w+"),
    (r"py:class", r"aura_context\._context\.VarContext"),
]

toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["figure.css"]
html_show_copyright = False
html_copy_source = False


PLAN_DOCSTRINGS = ModuleAnalyzer.for_module("aura_context.plan").find_attr_docs()

# Public classes name the package as their module, so autodoc looks there for the
# docstrings of their attributes.
package, context = map(
    ModuleAnalyzer.for_module, ("aura_context", "aura_context._context")
)
package.analyze()
context.analyze()
package.attr_docs |= context.attr_docs
package.annotations |= context.annotations
package.tagorder |= context.tagorder


def fetch_docstring(
    _app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Give a re-exported variable the docstring that stands where it is defined."""
    if what == "data" and not any(lines):
        lines[:] = PLAN_DOCSTRINGS["", name.rpartition(".")[2]]


def setup(app: Sphinx) -> None:
    """Connect what autodoc cannot do by itself."""
    app.connect("autodoc-process-docstring", fetch_docstring)
