"""Which files of the library a module imports, directly or through others; read from the source, nothing is executed."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _file(module: str) -> Path | None:
    base = (ROOT / "src" if module.split(".")[0] == "qi2" else ROOT).joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(node: ast.AST) -> set[str]:
    if _is_type_checking(node):
        return set()
    found: set[str] = set()
    if isinstance(node, ast.Import):
        found = {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        found = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    for child in ast.iter_child_nodes(node):
        found |= _imports(child)
    return {name for name in found if name.split(".")[0] == "qi2"}


@cache
def direct(path: Path) -> frozenset[Path]:
    """Files of qi2 that a file imports; `TYPE_CHECKING` blocks do not count."""
    return frozenset(found for name in _imports(ast.parse(path.read_text())) if (found := _file(name)) is not None)


def closure(path: Path) -> set[Path]:
    """All files of qi2 that importing ``path`` and calling what it imports can reach."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        for found in direct(waiting.pop()) - seen:
            seen.add(found)
            waiting.append(found)
    return seen
