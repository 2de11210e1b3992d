"""Captum, an optional extra: imported when a method of it is used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from bakeoff.errors import UsageError


def missing() -> str:
    """Say what to install where Captum is not; "" where it is."""
    return "" if find_spec("captum") else "it needs Captum: pip install 'bakeoff[explain]'"


def attribution(name: str) -> Any:
    """Return a class of captum.attr.  Raises UsageError, naming the extra, where Captum is not installed."""
    if why := missing():
        raise UsageError(f"{name}: {why}")
    import captum.attr

    return getattr(captum.attr, name)
