"""Which of a user's own Python files a module was made from, as far as its import statements say."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType


def own_files(module: ModuleType) -> list[Path]:
    """The file of a module and of every module that it imports, directly or not, short of installed packages.

    The module's own package counts wherever it lives. An import by `importlib` is not seen.
    """
    found: dict[str, Path] = {}
    todo = [module.__name__]
    top = module.__name__.partition(".")[0]
    while todo:
        name = todo.pop()
        path = _path(name)
        if name in found or path is None or not (name.partition(".")[0] == top or _is_users(path)):
            continue
        found[name] = path
        todo += _imported(name, path)
    return sorted(set(found.values()))


def forget_own(known: Collection[str]) -> None:
    """Forget the user's modules that were imported since the names in `known` were all."""
    for name in [name for name in sys.modules if name not in known]:
        path = _path(name)
        if path is not None and _is_users(path):
            del sys.modules[name]


def _path(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def _is_users(path: Path) -> bool:
    """Whether a file belongs neither to Python nor to an installed package, nor to seqport."""
    installed = [Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    seqport = sys.modules["seqport.errors"].__file__
    assert seqport is not None
    house = Path(seqport).resolve().parents[2]
    rooms = [house / room for room in ("exporters", "models", "pipeline", "runtime", "src")]
    return not any(path.is_relative_to(place) for place in [*installed, *rooms])


def _imported(name: str, path: Path) -> Iterator[str]:
    """The full names that a module's import statements may mean, and the packages around them."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for found in names:
            parts = found.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
