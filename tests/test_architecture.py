"""The house rules: who may import whom, no cycles, no drawers, nothing too long, nothing heavy in light modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
RANKS = {
    "errors": -1,  # which the others of rank 0 may raise
    **dict.fromkeys(["seeds", "files", "findings"], 0),
    **dict.fromkeys(["data", "engines", "settings"], 1),
    **dict.fromkeys(["models", "tasks"], 2),
    **dict.fromkeys(["evaluate", "explain", "predict"], 3),
    **dict.fromkeys(["train", "grading"], 4),
    **dict.fromkeys(["store", "study", "demos", "draft"], 5),
    **dict.fromkeys(["compare", "prepare", "execute", "timing", "guards"], 6),
    **dict.fromkeys(["execution", "winners"], 7),
    "runs": 8,
    **dict.fromkeys(["tuning", "racing"], 9),
    **dict.fromkeys(["contest", "report", "doctor", "tables"], 10),
    **dict.fromkeys(["curve", "verbs_data", "exhibition", "export", "composite", "track"], 11),
    **dict.fromkeys(["verbs", "verbs_winner", "verbs_predict", "serve", "progress"], 12),
    **dict.fromkeys(["options", "__init__"], 13),
    **dict.fromkeys(["cli_data", "cli_winner", "cli_predict", "cli_composite"], 14),
    "cli": 15,
    "__main__": 16,
}
HEAVY = {"torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "cv2"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "factory", "registry", "misc"}
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
FUNCTIONS = [
    (f"{NAMES[path]}:{node.name}", node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def room(module: str) -> str:
    """Return the room of a module: the name below bakeoff."""
    return [*module.split("."), "__init__"][1]


def imports(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, wherever in the file."""
    found: set[str] = set()
    package = NAMES[path] if path.name == "__init__.py" else NAMES[path].rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES.values() else module for name in inner}
    return {name for name in found if name.split(".")[0] == "bakeoff"} - {NAMES[path]}


@pytest.mark.parametrize("path", FILES, ids=NAMES.values())
def test_rooms_import_from_lower_ranks_only(path: Path) -> None:
    own = room(NAMES[path])
    assert own in RANKS, f"{own} has no rank: give it one in DESIGN's order"
    wrong = [name for name in imports(path) if room(name) != own and RANKS[room(name)] >= RANKS[own]]
    assert not wrong


def test_there_are_no_cycles() -> None:
    order = TopologicalSorter({NAMES[path]: imports(path) for path in FILES})
    assert "bakeoff.errors" in set(order.static_order())  # raises CycleError


def test_there_are_no_drawers() -> None:
    assert not set(chain.from_iterable(name.split(".") for name in NAMES.values())) & DRAWERS


def test_files_and_functions_stay_short() -> None:
    long_files = {NAMES[path]: lines for path in FILES if (lines := len(path.read_text("utf-8").splitlines())) > 400}
    assert not long_files
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in FUNCTIONS}
    assert not {name: length for name, length in lengths.items() if length > 60}
    assert sum(length > 35 for length in lengths.values()) <= 0.05 * len(lengths)


def test_functions_take_at_most_six_arguments() -> None:
    counts = {
        name: len([a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")])
        + len(node.args.kwonlyargs)
        for name, node in FUNCTIONS
    }
    commands = {name for name in counts if name.startswith("bakeoff.cli")}  # an option is an argument there
    assert not {name: count for name, count in counts.items() if count > 6 and name not in commands}


@pytest.mark.parametrize("module", ["bakeoff", "bakeoff.cli", "bakeoff.progress", "bakeoff.engines.worker"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
