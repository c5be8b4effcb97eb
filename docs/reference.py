"""Pages of the reference: every public name, in the rooms of `design.md`."""

import ast
import inspect
import re
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path


def rooms(root: Path) -> dict[str, list[str]]:
    """Names by room, as `trainability.trainers.MLP`, in the order of the table in `design.md`."""
    names = public_names(root / "src" / "trainability")
    found: dict[str, list[str]] = {}
    for room, patterns in _table(root / "docs" / "design.md"):
        mine = [m for p in patterns for m in names if fnmatch(m, p)]
        found[room] = list(dict.fromkeys(name for module in mine for name in names[module]))
    return {room: listed for room, listed in found.items() if listed}


def public_names(package: Path) -> dict[str, list[str]]:
    """Public names by the module they live in, from the stubs; those of `plot` from the module."""
    names = _stub(package / "__init__.pyi", "trainability")
    trainers = _stub(package / "trainers" / "__init__.pyi", "trainability.trainers")
    plot = [
        name
        for name, thing in vars(import_module("trainability.plot")).items()
        if inspect.isfunction(thing) and not name.startswith("_") and "trainability.plot" in thing.__module__
    ]
    return (
        names
        | {f"trainers/{module}": listed for module, listed in trainers.items()}
        | {"plot": [f"trainability.plot.{name}" for name in plot]}
    )


def _stub(path: Path, package: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.setdefault(node.module, []).extend(f"{package}.{alias.name}" for alias in node.names)
    return found


def _table(design: Path) -> list[tuple[str, list[str]]]:
    """Rooms and the patterns of their modules."""
    table = design.read_text(encoding="utf8").split("## Rooms")[1]
    rows = re.findall(r"^\| ([^|]+?) \| (.*) \|$", table, re.MULTILINE)
    return [
        (room[0].upper() + room[1:], [_pattern(name) for name in re.findall(r"`([^`]+)`", cell)])
        for room, cell in rows[1:]
    ]


def _pattern(name: str) -> str:
    return name.replace("…", "*") + ("*" if name.endswith("/") else "")


def write(root: Path, folder: Path) -> None:
    """Write a page for each room and one that lists them; untouched where nothing changed."""
    folder.mkdir(exist_ok=True)
    pages = {re.sub(r"\W+", "-", room.lower()): _page(room, names) for room, names in rooms(root).items()}
    listed = "\n".join(f"   {page}" for page in pages)
    pages["index"] = f"{_title('Reference')}\n.. toctree::\n   :maxdepth: 2\n\n{listed}\n"
    for page, text in pages.items():
        path = folder / f"{page}.rst"
        if not path.exists() or path.read_text(encoding="utf8") != text:
            path.write_text(text, encoding="utf8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _page(room: str, names: list[str]) -> str:
    listed = "\n".join(f"   ~{name}" for name in names)
    entries = "\n".join(f".. {_directive(name)}" for name in names)
    return f"{_title(room)}\n.. autosummary::\n   :nosignatures:\n\n{listed}\n\n{entries}"


def _directive(name: str) -> str:
    module, _, short = name.rpartition(".")
    thing = getattr(import_module(module), short)
    if inspect.isfunction(thing):
        return f"autofunction:: {name}\n"
    if not inspect.isclass(thing):
        return f"autodata:: {name}\n   :no-value:\n"
    kind = "autoexception" if issubclass(thing, BaseException) else "autoclass"
    return f"{kind}:: {name}\n   :members:\n"
