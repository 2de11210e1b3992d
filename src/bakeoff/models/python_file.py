"""A user's own network from a Python file: "path/to/file.py:function"."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bakeoff.data.dataset import TaskName
from bakeoff.errors import DataError, UsageError, nearest
from bakeoff.models import weights
from bakeoff.models.groups import from_children, last_layer
from bakeoff.models.head import first_line
from bakeoff.models.spec import Card, Head, ModelSpec, Network

NAME = "python"


def names(task: TaskName = "classification") -> tuple[str, ...]:  # noqa: ARG001
    """There is nothing to list: the files are the user's."""
    return ()


def has(arch: str, task: TaskName) -> bool:  # noqa: ARG001
    """A file may hold a network for any task; the name must be that of a file."""
    return arch.partition(":")[0].endswith(".py")


def card(arch: str) -> Card:  # noqa: ARG001
    """Nothing is known about a user's own weights."""
    return Card()


def build(spec: ModelSpec, classes: int, size: int, task: TaskName = "classification") -> Network:  # noqa: ARG001
    """Call the user's function(classes=..., size=..., **options) and wrap the module that it returns.

    The module gets images (B, 3, size, size) and returns logits (B, classes).  Its attributes `mean` and `std` (3
    values each) are the normalisation, else 0 and 1; `head_name` names the submodule that is the head, else the last
    layer is.  Raises UsageError for a missing function or one that fails, DataError for a missing file.
    """
    if spec.head != Head():
        raise UsageError(f"{spec.arch}: head options do not apply to your own network; build its head in the function")
    if spec.weights == "pretrained":
        raise UsageError(f'{spec.arch}: load published weights in the function, or give a file; weights = "none"')
    body = _call(spec, classes, size)
    head = str(getattr(body, "head_name", "")) or last_layer(body)
    loaded = Card()
    if spec.weights != "none":
        loaded = weights.load_file(body, spec.weights, (head,))
    mean, std = _triple(body, "mean", 0.0, spec.arch), _triple(body, "std", 1.0, spec.arch)
    return Network(body, from_children(body, (head,)), mean, std, loaded)


def source_hash(arch: str) -> str:
    """Return the sha256 (hex) of the user's file; raises DataError when it is gone."""
    return hashlib.sha256(_file(arch).read_bytes()).hexdigest()


def _file(arch: str) -> Path:
    """Return the path in 'path/to/file.py:function'."""
    path = Path(arch.rpartition(":")[0])
    if not arch.rpartition(":")[0]:
        raise UsageError(f'{arch}: name the function too, as in "{arch}:build"')
    if not path.is_file():
        raise DataError(f"{path}: there is no such Python file (looked in {Path.cwd()})")
    return path


def _call(spec: ModelSpec, classes: int, size: int) -> nn.Module:
    """Import the file and call the function; what goes wrong inside is told with the file and the line."""
    path, name = _file(spec.arch), spec.arch.rpartition(":")[2]
    module = _imported(path)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{path} has no function {name!r}{nearest(name, known)}")
    given = {"classes": classes, "size": size, **spec.options}
    try:
        body = function(**given)
    except Exception as error:
        told = _told(error, path)
        call = "" if " (line " in told else f"; it is called as {name}({', '.join(f'{k}=...' for k in given)})"
        raise UsageError(f"{path}: {name}() raised {told}{call}") from error
    if not isinstance(body, nn.Module):
        raise UsageError(f"{path}: {name}() returned {type(body).__name__}; expected a torch.nn.Module")
    return body


def _imported(path: Path) -> ModuleType:
    """Run the file as a module of its own name, with its folder on the import path while it runs."""
    name = f"bakeoff_python_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UsageError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickles of the file's classes look their module up here
    sys.path.insert(0, str(path.resolve().parent))
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"{path}: cannot be imported: {_told(error, path)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _told(error: BaseException, path: Path) -> str:
    """Return type, text and the last line of the user's file that the error passed through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == path.name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {line})" if line else "")


def _triple(body: nn.Module, name: str, default: float, arch: str) -> tuple[float, ...]:
    """Return three values from the module's attribute, one value standing for all three."""
    given: Any = getattr(body, name, default)
    if callable(given):
        given = default
    try:
        values = torch.as_tensor(given, dtype=torch.float32).flatten().tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{arch}: its attribute {name} holds no numbers: {first_line(error)}") from error
    if len(values) not in (1, 3) or (name == "std" and not all(value > 0 for value in values)):
        raise UsageError(f"{arch}: its attribute {name} is {values}; expected 3 numbers" + " above 0" * (name == "std"))
    return tuple(values * (3 // len(values)))
