"""The documentation site: the Markdown pages of this folder, and an API reference made from the docstrings.

``sh run.sh docs`` builds it into ``docs/_build/html``; warnings are errors. Pages, folders with an ``index.md`` and modules
appear by themselves.
"""

import builtins
import re
from importlib.metadata import version as installed_version

from sphinx import addnodes

project = "napari-unroll"
author = "The napari-unroll developers"
copyright = f"2026, {author}"
version = release = installed_version("napari-unroll")

extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "api/modules.rst"]
html_theme = "furo"
html_title = f"{project} {release}"
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../src/napari_unroll",
        "destination": "api",
        "exclude_patterns": ["**/gui", "**/weights", "**/__main__.py"],
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance", "undoc-members"},
    }
]
autodoc_default_options = {"exclude-members": "model_config"}
autodoc_inherit_docstrings = False  # those of torch and deepinv refer to their own pages
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True


def _list_folder(app, docname, source):
    """The index page of a folder leads to every other page in it."""
    if docname.endswith("/index"):
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def _describe_fields(app, what, name, obj, options, lines):
    """The fields of a parameter record are described by the texts that forms and ``--help`` show."""
    fields = getattr(obj, "model_fields", {}) if what == "class" else {}
    described = [f":param {field}: {info.description}" for field, info in fields.items() if info.description]
    lines += ["", *described] if described else []


def _keep_bars(app, what, name, obj, options, lines):
    """|λ| is a magnitude, no substitution; literals stay as they are."""
    lines[:] = ["".join(_escape(part) for part in re.split(r"(``.*?``)", line)) for line in lines]


def _escape(text):
    return text if text.startswith("``") else text.replace("|", r"\|")


def _leave_builtins(app, doctree):
    """``slice`` is Python's own, which has no page here, and not an option of that name in some record."""
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if reference.get("refdomain") == "py" and hasattr(builtins, reference["reftarget"]):
            reference.replace_self(reference.children)


def setup(app):
    app.connect("doctree-read", _leave_builtins)
    app.connect("source-read", _list_folder)
    app.connect("autodoc-process-docstring", _describe_fields)
    app.connect("autodoc-process-docstring", _keep_bars, priority=900)
