"""Reading the options of the classics: whole numbers with the paper's defaults."""

from __future__ import annotations

from collections.abc import Mapping

from bakeoff.errors import UsageError, nearest
from bakeoff.models.spec import ModelSpec


def whole_numbers(spec: ModelSpec, defaults: Mapping[str, int]) -> dict[str, int]:
    """Return the spec's options over these defaults; raises UsageError for other names and for values below 1."""
    found = dict(defaults)
    for name, value in spec.options.items():
        if name not in defaults:
            has = f"{nearest(name, defaults)}; it has {', '.join(defaults) or 'none'}"
            raise UsageError(f"classics:{spec.arch} has no option {name!r}{has}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"classics:{spec.arch}: option {name} = {value!r} is no positive whole number")
        found[name] = value
    return found
