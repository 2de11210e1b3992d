"""Offline expansion: derived images beside their originals, in a new dataset that says how each was made."""

from bakeoff.data.expand.plan import Expansion
from bakeoff.data.expand.writing import Expanded, expand

__all__ = ["Expanded", "Expansion", "expand"]
