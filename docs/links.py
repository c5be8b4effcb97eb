"""Sphinx extension: links theory pages and articles where a text names them, as theory/05 or arXiv:2402.06184."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

_THEORY = {page.stem[:2]: page.stem for page in (Path(__file__).parents[1] / "theory").glob("*.md")}
_NAMED = re.compile(r"(theory/\d\d|arXiv:\d{4}\.\d{4,5})")
_LEFT = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title, nodes.math, addnodes.pending_xref)


def _link(app, doctree):
    """Replace names in running text; code, formulas, titles and links stay."""
    for text in list(doctree.findall(nodes.Text)):
        parts = _NAMED.split(text.astext())
        if len(parts) == 1 or any(isinstance(above, _LEFT) for above in _ancestors(text)):
            continue
        parts[::2] = [nodes.Text(part) for part in parts[::2]]
        parts[1::2] = [_reference(name, app.env.docname) for name in parts[1::2]]
        text.parent.replace(text, parts)


def _ancestors(node):
    while node := node.parent:
        yield node


def _reference(name: str, page: str) -> nodes.Element:
    if name.startswith("arXiv"):
        return nodes.reference("", name, refuri=f"https://arxiv.org/abs/{name.removeprefix('arXiv:')}")
    target = _THEORY.get(name[-2:])
    if target is None:
        return nodes.inline("", name)
    words = {"refdomain": "std", "reftype": "doc", "reftarget": f"/theory/{target}", "refdoc": page}
    return addnodes.pending_xref("", nodes.inline("", name), refexplicit=True, refwarn=True, **words)


def setup(app):
    app.connect("doctree-read", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
