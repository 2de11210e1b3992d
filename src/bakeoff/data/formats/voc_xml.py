"""One Pascal VOC XML file: read with care, since it may be hostile, and written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from bakeoff.data.formats.annotations import DIGITS, Item, Size
from bakeoff.data.formats.rows import class_name
from bakeoff.errors import DataError

MAX_BYTES, MAX_DEPTH = 8 << 20, 32  # expat would take 200,000 nested tags
CORNERS = ("xmin", "ymin", "xmax", "ymax")
UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Annotation:
    """What an XML file says: class names and texts of its objects, image, size ((0, 0): none), and our own group."""

    file: Path
    names: tuple[str, ...]
    objects: tuple[Mapping[str, str], ...]
    filename: str
    size: Size
    group: str | None

    def items(self) -> tuple[Item, ...]:
        """Return the objects with boxes; VOC counts pixels from 1 and includes the last, our boxes end after it.

        Many tools count from 0 and are a pixel off; nothing in a file tells them apart.  Equal corners (xmin = xmax)
        are a slip rather than one pixel, unless our own `area` says so: the box has no area, which the audit finds.
        Raises DataError for an object without a box of four numbers.
        """
        found = []
        for number, (name, texts) in enumerate(zip(self.names, self.objects, strict=True), 1):
            where = f"{self.file}: object {number} ({name or 'without a name'})"
            left, top, right, bottom = (_number(texts, corner, where) for corner in CORNERS)
            crowd = texts.get("difficult", "").strip() == "1"
            area = _number(texts, "area", where) if "area" in texts else None
            step_x, step_y = (float(not (first == last and not area)) for first, last in ((left, right), (top, bottom)))
            found.append(Item(name, (left - step_x, top - step_y, right, bottom), crowd=crowd, area=area))
        return tuple(found)


def parse(file: Path) -> Annotation:
    """Read one XML file: its bytes, depth and entities are limited.  Raises DataError."""
    root = _root(file)
    elements = root.findall("object")
    size = (_whole(root.findtext("size/width")), _whole(root.findtext("size/height")))
    return Annotation(
        file,
        tuple(class_name(element.findtext("name") or "") for element in elements),
        tuple(_texts(element) for element in elements),
        root.findtext("filename") or "",
        size,
        root.findtext("group") or None,
    )


def tree(name: str, size: Size, items: Sequence[Item], group: str | None) -> ElementTree.ElementTree:
    """Return the annotation of an image: boxes 1-based, the last pixel included; `area`, our own, where it says more.

    Raises DataError for names that XML cannot hold.
    """
    for text in (*(item.name for item in items), group or "", name):
        if UNWRITABLE.search(text):
            raise DataError(f"{text!r} has characters that XML cannot hold; write coco or folders instead")
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    if group is not None:
        ElementTree.SubElement(root, "group").text = group
    _add(ElementTree.SubElement(root, "size"), {"width": size[0], "height": size[1], "depth": 3})
    for item in items:
        element = ElementTree.SubElement(root, "object")
        _add(element, {"name": item.name, "pose": "Unspecified", "truncated": 0, "difficult": int(item.crowd)})
        left, top, right, bottom = item.box
        thin = right - left == 1 or bottom - top == 1
        if item.area is not None and (thin or item.area != (right - left) * (bottom - top)):
            _add(element, {"area": repr(item.area)})
        corners = (_text(value) for value in (left + 1, top + 1, right, bottom))
        _add(ElementTree.SubElement(element, "bndbox"), dict(zip(CORNERS, corners, strict=True)))
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _root(file: Path) -> ElementTree.Element:
    """Return the root of a file."""
    root: ElementTree.Element | None = None
    depth = 0
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: larger than {MAX_BYTES >> 20} MB, which no annotation is")
        with file.open("rb") as stream:
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                root = element if root is None else root
                depth += 1 if event == "start" else -1
                if depth > MAX_DEPTH:
                    raise DataError(f"{file}: tags nested deeper than {MAX_DEPTH}")
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DataError(f"{file}: damaged or unsafe XML: {error}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    if root is None or root.tag != "annotation":
        raise DataError(f"{file}: not a Pascal VOC annotation (its root is not <annotation>)")
    return root


def _texts(element: ElementTree.Element) -> dict[str, str]:
    """Return the texts of an object that we look at, by their tags."""
    found = {tag: element.findtext(f"bndbox/{tag}") for tag in CORNERS}
    found |= {tag: element.findtext(tag) for tag in ("difficult", "area")}
    return {tag: text for tag, text in found.items() if text is not None}


def _number(texts: Mapping[str, str], tag: str, where: str) -> float:
    """Return a text as a number."""
    try:
        return float(texts[tag])
    except (KeyError, ValueError):
        raise DataError(f"{where}: {tag} must be a number, not {texts.get(tag)!r}") from None


def _whole(text: str | None) -> int:
    """Return a width or height; 0 when there is none."""
    try:
        return int(float(text or ""))
    except (ValueError, OverflowError):
        return 0


def _text(value: float) -> str:
    """Write a coordinate: without a point where it is whole."""
    return str(int(value)) if value.is_integer() else repr(round(value, DIGITS))


def _add(parent: ElementTree.Element, texts: Mapping[str, object]) -> None:
    """Add one child per text."""
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
