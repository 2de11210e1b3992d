"""bakeoff: which vision model and recipe should I use on my data, is the difference real, where is the winner?

The verbs of the command line as functions, and the types they take and give.  They load when first used: `import
bakeoff` alone does not import torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bakeoff.compare import Comparison
    from bakeoff.composite import composite
    from bakeoff.data.dataset import Dataset
    from bakeoff.serve import serve
    from bakeoff.study import Study
    from bakeoff.verbs import curve, demo, doctor, init, models, report, run
    from bakeoff.verbs_data import audit, convert, expand, show, split
    from bakeoff.verbs_predict import predict
    from bakeoff.verbs_winner import explain, export, score

__all__ = [
    "Comparison",
    "Dataset",
    "Study",
    "audit",
    "composite",
    "convert",
    "curve",
    "demo",
    "doctor",
    "expand",
    "explain",
    "export",
    "init",
    "models",
    "predict",
    "report",
    "run",
    "score",
    "serve",
    "show",
    "split",
]

_HOMES = {
    "Comparison": "bakeoff.compare",
    "Dataset": "bakeoff.data.dataset",
    "Study": "bakeoff.study",
    **dict.fromkeys(("audit", "convert", "expand", "show", "split"), "bakeoff.verbs_data"),
    "composite": "bakeoff.composite.verb",
    "predict": "bakeoff.verbs_predict",
    "serve": "bakeoff.serve.server",
    **dict.fromkeys(("explain", "export", "score"), "bakeoff.verbs_winner"),
}


class _Package(ModuleType):
    """A verb and its room may share a name (predict): the attribute is the verb, the room is imported by its path."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'bakeoff' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "bakeoff.verbs")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
