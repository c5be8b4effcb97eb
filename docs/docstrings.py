"""Sphinx extension: makes of docstrings, which are written to be read as they are, what reStructuredText expects."""

import re
from pathlib import Path

import reference
from sphinx.pycode import ModuleAnalyzer

# Module of each public name, and the whole names of those that need no prefix.
_HOMES = {
    name: f"trainability.{module.replace('/', '.')}"
    for module, names in reference.public_names(Path(__file__).parents[1] / "src" / "trainability").items()
    for name in names
}
_PUBLIC = {name.rpartition(".")[2]: name for name in _HOMES if not name.startswith("trainability.plot.")}


def plain(text: str) -> str:
    """Link public names, set other words in backticks as code, and keep the bars of absolute values.

    Examples
    --------
    >>> plain("The |multiplier| of a `Cycle`, of `period` p.")
    'The \\\\|multiplier\\\\| of a :py:obj:`~trainability.Cycle`, of ``period`` p.'
    """
    parts = re.split(r"(``[^`]+``|(?<!:)`[^`]+`)", text)
    parts[::2] = [re.sub(r"\||(?<=[(,])\*(?=\w)|(?<=, )\*(?=\w)", r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [part if part.startswith("``") else _code(part.strip("`")) for part in parts[1::2]]
    return "".join(parts)


def _code(word: str) -> str:
    target = _PUBLIC.get(word.removeprefix("trainability."))
    return f":py:obj:`~{target}`" if target else f"``{word}``"


def _prose(app, what, name, thing, options, lines):
    """Change the prose of a docstring in place; examples end at an empty line."""
    if what == "data":  # a constant has no docstring but that of its type; its comment stands in its module
        comments = ModuleAnalyzer.for_module(_HOMES[name]).find_attr_docs()
        lines[:] = comments["", name.rpartition(".")[2]]
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            lines[i] = plain(line)


def _types(app, what, name, thing, options, lines):
    """Keep types as they are written: Sphinx takes each word of "array, shape (n, 2)" for a name to link."""
    for i, line in enumerate(lines):
        if found := re.fullmatch(r"(:(?:var)?type [^:]+: )(.+)", line):
            words = re.sub(r"\b[A-Z]\w+\b", lambda word: _linked(word[0]), found[2])
            lines[i] = found[1] + (words if words != found[2] else f"*{words}*")


def _linked(word: str) -> str:
    return f":py:obj:`~{_PUBLIC[word]}`" if word in _PUBLIC else word


def setup(app):
    """One comes before the extension that reads the sections, the other after it."""
    app.connect("autodoc-process-docstring", _prose, priority=100)
    app.connect("autodoc-process-docstring", _types, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
