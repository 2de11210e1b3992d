"""Why they say so: the gallery of explanations, shown without loading a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bakeoff.errors import DataError
from bakeoff.report.material import Material, read_part
from bakeoff.report.sections import Section
from bakeoff.store import StudyFolder

SHARP = 120  # pixels: pictures up to this side are enlarged pixel by pixel


def explanations(material: Material) -> list[Section]:
    """Return the section of a study whose candidates were explained; nothing where none was.

    Raises DataError when the pictures are missing or damaged.
    """
    stored = read_part(material.folder.explanations)
    if not stored:
        return []
    known = {run.id for run in material.runs}
    current = [e for e in stored["entries"] if e["run"] in known and e["candidate"] in material.by_name]
    pictures = read_pictures(material.folder)
    rows = [(id, [_shown(material, e, pictures) for e in current if e["image"] == id]) for id in stored["images"]]
    missing = set(material.by_name) - {entry["candidate"] for entry in current}
    content = {
        "rows": [(id, entries) for id, entries in rows if entries],
        "stale": len(current) < len(stored["entries"]) or bool(missing),
        "marked": _tally(current, "depends_on_weights"),
        "idle": _tally(current, "better_than_random"),
        "maps": sum("correlation" in method for entry in current for method in entry["methods"]),
    }
    return [Section("explanations", "Why they say so", "explanations.html.j2", content)]


def _tally(entries: list[dict[str, Any]], name: str) -> int:
    """Count the maps of which something is not true."""
    return sum(method.get(name) is False for entry in entries for method in entry["methods"])


def _shown(material: Material, entry: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows of an image and a candidate."""
    methods = [{**one, "source": pictures.get(one.get("picture", ""), "")} for one in entry["methods"]]
    source = pictures.get(entry["picture"], "")
    return {**entry, "owner": material.by_name[entry["candidate"]], "source": source, "methods": methods}


def read_pictures(folder: StudyFolder) -> dict[str, str]:
    """Return the gallery's pictures as data URIs, by their names."""
    try:
        with np.load(folder.explained, allow_pickle=False) as stored:
            return {name: _uri(stored[name]) for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        why = f"cannot be read ({error}); make it again: bakeoff explain {folder.path}"
        raise DataError(f"{folder.explained}: {why}") from None


def _uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a data URI."""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(picture.size) <= SHARP:
        times = 2 * SHARP // max(picture.size)
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    picture.save(buffer, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
