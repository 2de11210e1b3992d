"""Subjects cut out along an alpha matte and set before another background: pictures and videos."""

from bakeoff.composite.composing import Composing, CutOut
from bakeoff.composite.making import Made
from bakeoff.composite.matte import Matting
from bakeoff.composite.placement import Placement, read_position
from bakeoff.composite.verb import Options, composite, make_composites

__all__ = [
    "Composing",
    "CutOut",
    "Made",
    "Matting",
    "Options",
    "Placement",
    "composite",
    "make_composites",
    "read_position",
]
