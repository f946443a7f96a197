"""Imports point one way: each room of the package imports from the rooms below it only."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "distill"
# From top to bottom.
ROOMS = (
    "cli", "search", "serve", "export", "predict", "pipeline", "student", "teacher", "training",
    "evaluation", "tasks", "baselines", "data", "objectives", "inventory", "reporting",
    "distributed",
    "modeling", "answers", "metrics", "runtime", "config", "core",
)  # fmt: skip
# Entry points stand above all rooms.
ENTRY_POINTS = {
    "distill", "distill.search.__main__", "distill.export.__main__", "distill.predict.__main__",
    "distill.serve.__main__",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imported(name: str, file: Path, known: set[str], everywhere: bool) -> Iterator[str]:
    """Modules of the package that a module imports, at module level or everywhere."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "distill":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def room(module: str) -> str | None:
    """The room that a module is in; ``None`` for entry points at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def is_entry_point(module: str) -> bool:
    return module in ENTRY_POINTS or room(module) is None


def test_every_folder_is_a_room():
    folders = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()} - {"__pycache__"}
    assert folders - {"conf"} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_no_upward_import(name):
    known = modules()
    upward = [
        f"{module} -> {target}"
        for module, file in known.items()
        if room(module) == name and not is_entry_point(module)
        for target in imported(module, file, set(known), everywhere=True)
        if target != "distill"
        and (room(target) is None or ROOMS.index(room(target)) < ROOMS.index(name))
    ]
    assert not upward


def test_runtimes_stand_by_themselves():
    """An exported folder carries the file alone, for a machine without torch."""
    allowed = sys.stdlib_module_names | {"numpy", "tokenizers"}
    for file in (PACKAGE / "runtime").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}"] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, file


def test_no_circle_between_modules():
    known = modules()
    graph = {
        module: {
            target
            for target in imported(module, file, set(known), everywhere=False)
            if target in known and target != module
        }
        for module, file in known.items()
    }
    remaining = dict(graph)
    while True:  # remove what imports nothing that remains, until nothing changes
        leaves = [module for module, targets in remaining.items() if not targets & set(remaining)]
        if not leaves:
            break
        for module in leaves:
            del remaining[module]
    assert not remaining, sorted(remaining)


def test_no_parameter_called_task_without_a_type():
    untyped = [
        f"{module}: {node.name}"
        for module, file in modules().items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.arg == "task" and argument.annotation is None
    ]
    assert not untyped


def test_the_rule_would_notice():
    """The rule finds an upward import where there is one."""
    known = modules()
    tree = "from distill.cli.distill import main\n"
    file = PACKAGE / "core" / "errors.py"
    targets = [
        f"{node.module}" for node in ast.walk(ast.parse(tree)) if isinstance(node, ast.ImportFrom)
    ]
    assert room("distill.core.errors") == "core" and file.is_file()
    assert all(ROOMS.index(room(target)) < ROOMS.index("core") for target in targets)
    assert "distill.cli.distill" in known
