"""Write report.html: one file that opens offline, rebuilt from the study folder without loading a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bakeoff.files import write_text
from bakeoff.findings import lowered, plural
from bakeoff.report import classification, objects, semantic, wording
from bakeoff.report.cost import cost
from bakeoff.report.data_size import data_size
from bakeoff.report.diagnosis import diagnosis
from bakeoff.report.explanations import explanations
from bakeoff.report.learning import learning
from bakeoff.report.material import Material, read_comparison, read_material
from bakeoff.report.race import race
from bakeoff.report.sections import Section, candidates, checks, differences, making, verdict
from bakeoff.report.tuning import tuning
from bakeoff.store import StudyFolder
from bakeoff.tasks.task import Metric


@dataclass(frozen=True)
class TaskPart:
    """What a task adds to the page: the metrics it knows by name, sections, and style sheets and scripts for them."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    sections: Callable[[Material], list[Section]] = lambda _: []
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


FILTERS: tuple[Callable[..., object], ...] = (
    *(wording.interval, wording.number, wording.share, wording.chance, wording.probability, wording.count),
    *(wording.duration, wording.milliseconds, wording.plain, plural, wording.scaled, wording.known),
    lowered,
)

PLATES = (("objects.css",), ("plates.js",))
TASK_PARTS: Mapping[str, TaskPart] = {
    "classification": TaskPart(classification.METRICS, classification.sections),
    "semantic": TaskPart(semantic.METRICS, semantic.sections, *PLATES),
    "detection": TaskPart(objects.BOXES, objects.sections, *PLATES),
    "instance": TaskPart(objects.MASKS, objects.sections, *PLATES),
}


def write_report(folder: StudyFolder) -> Path:
    """Write report.html from the files of the study and return its path; the same files give the same bytes.

    Raises DataError when the comparison is missing or a file is damaged, ResourceError when the disk is full.
    """
    write_text(folder.report, render(folder))
    return folder.report


def render(folder: StudyFolder) -> str:
    """Return the page as text."""
    comparison = read_comparison(folder)
    part = TASK_PARTS.get(comparison.task, TaskPart())
    material = read_material(folder, comparison, part.metrics)
    before = [*(make(material) for make in (verdict, candidates, differences, cost, learning))]
    before += [*diagnosis(material), *data_size(material)]
    after = [*tuning(material), *race(material), *(make(material) for make in (checks, making))]
    style = "".join(map(_asset, ("style.css", "diagnosis.css", "explanations.css", *part.styles)))
    script = "".join(map(_asset, ("script.js", *part.scripts)))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            material=material,
            comparison=comparison,
            metric=material.metric,
            sections=[*before, *part.sections(material), *explanations(material), *after],
            style=Markup(style),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _asset(name: str) -> str:
    """Return one of the package's own text files, to be put into the page as it is."""
    return (files("bakeoff.report") / "templates" / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    """Return the template environment: everything printed is escaped and made visible."""
    environment = Environment(
        loader=PackageLoader("bakeoff.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in FILTERS})
    return environment
