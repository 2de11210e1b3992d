"""The race on validation, and the looks: who was stopped, and after how many seeds the study ended."""

from __future__ import annotations

from typing import Any

from bakeoff.report.material import Material, read_part
from bakeoff.report.sections import Section
from bakeoff.report.wording import unit


def race(material: Material) -> list[Section]:
    """Return the section of a study that raced or looked more than once; nothing for the others."""
    raced = read_part(material.folder.plan).get("race")  # else race.json is of an earlier study in this folder
    content = read_part(material.folder.race)
    content = content if raced and content.get("sentence") == raced else {}
    looks = material.comparison.looks
    if not content and not looks.where:
        return []
    known = {
        "sentence": content.get("sentence", ""),
        "rungs": [_rung(rung) for rung in content.get("rungs", ())],
        "looks": looks if looks.where else None,
        "ended": "every tested pair was decided" if _settled(material) else "it was the last one",
        "factor": 100 if material.metric.percent else 1,
        "unit": unit(material.metric),
        "digits": 1 if material.metric.percent else 3,
    }
    if looks.ahead is not None and not _settled(material):
        known["ended"] = "the study was stopped there"
    return [Section("race", "Race and looks", "race.html.j2", known)]


def _settled(material: Material) -> bool:
    """Say whether no tested pair is open."""
    return all(pair.kind != "undecided" for pair in material.comparison.pairs)


def _rung(rung: dict[str, Any]) -> dict[str, Any]:
    """Return a rung with what the table's caption says of it."""
    return {**rung, "percent": round(100 * rung["share"]), "left": sum(not e["dropped"] for e in rung["entries"])}
