"""How numbers and names are written in the report: one place for rounding, signs, units and hostile characters."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from markupsafe import Markup, escape

from bakeoff.compare import Estimate
from bakeoff.tasks.task import Metric

NOTHING = "–"  # written where a number is missing or undefined
SHA256 = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")

# Control characters, bidirectional overrides, invisible separators and lone surrogates: a name that holds them could
# reorder or hide its neighbours, or make the file invalid UTF-8.  Tab and newline stay; so do the joiners of scripts.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

LEVELS = {
    "L0": "These trained files on this test set. One run each, so the order may not survive retraining: nothing "
    "here says that one model is better than another.",
    "L1": "These recipes, trained on this training set. Both the luck of the seed and the luck of the test images are "
    "in the intervals; another training set is not.",
    "L2": "These recipes, on data sets like this one. Every image was tested in repeated cross-validation, so the "
    "choice of training images is in the intervals too.",
}


def visible(text: str) -> str:
    """Replace control, bidirectional and other hidden characters by their code in brackets.

    >>> visible("cat\u202egpj")
    'cat⟨U+202E⟩gpj'
    """
    return _HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def finalize(value: object) -> object:
    """Make every plain string that a template prints visible(); None prints as a dash."""
    if value is None:
        return NOTHING
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def known(value: object) -> float | None:
    """Return a finite number, or None for everything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def decimals(span: float | None) -> int:
    """Return the decimals worth printing when the uncertainty spans `span` units."""
    return 1 if span is None or span >= 0.8 else 2


def number(value: object, digits: int = 1, signed: bool = False) -> str:
    """Write a number with a true minus sign, or a dash.

    >>> number(-0.04), number(1.25, 2, signed=True), number(None)
    ('0.0', '+1.25', '–')
    """
    found = known(value)
    if found is None:
        return NOTHING
    rounded = round(found, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def scaled(value: object, metric: Metric) -> float | None:
    """Return a metric's value in the unit it is shown in: points for percent metrics."""
    found = known(value)
    return None if found is None else found * (100 if metric.percent else 1)


def interval(estimate: Estimate | None, metric: Metric, signed: bool = False) -> Markup:
    """Write 'value [low, high]' in the metric's unit; the interval is set smaller."""
    if estimate is None:
        return Markup(NOTHING)
    value, low, high = (scaled(v, metric) for v in (estimate.value, estimate.low, estimate.high))
    span = None if low is None or high is None else high - low
    digits = decimals(span) if metric.percent else 3
    text = escape(number(value, digits, signed))
    if span is None:
        return text
    return text + Markup(' <span class="ci">[{}, {}]</span>').format(
        number(low, digits, signed), number(high, digits, signed)
    )


def unit(metric: Metric) -> str:
    """Return the unit of differences of a metric."""
    return "points" if metric.percent else "units"


def share(value: object, digits: int = 0) -> str:
    """Write a share of one as percent.

    >>> share(0.873)
    '87 %'
    """
    found = known(value)
    return NOTHING if found is None else f"{number(100 * found, digits)} %"


def chance(value: object) -> str:
    """Write a probability as percent, never as certain.

    >>> chance(0.97), chance(0.9999)
    ('97 %', '> 99 %')
    """
    found = known(value)
    if found is None:
        return NOTHING
    return "> 99 %" if found > 0.995 else "< 1 %" if found < 0.005 else share(found)


def probability(value: object) -> str:
    """Write a p value.

    >>> probability(0.00002), probability(0.0321), probability(0.4)
    ('< 0.001', '0.032', '0.40')
    """
    found = known(value)
    if found is None:
        return NOTHING
    return "< 0.001" if found < 0.001 else f"{found:.3f}" if found < 0.1 else f"{found:.2f}"


def count(value: object) -> str:
    """Write a large number with an SI suffix and three significant figures.

    >>> count(23540850), count(812), count(4.1e9)
    ('23.5 M', '812', '4.1 G')
    """
    found = known(value)
    if found is None:
        return NOTHING
    for size, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(found) >= size * 0.9995:
            return f"{float(f'{found / size:.3g}'):g}{suffix}"
    return f"{found:.3g}"


def duration(value: object) -> str:
    """Write seconds as people say them.

    >>> duration(3.21), duration(125), duration(7260)
    ('3.2 s', '2 min 5 s', '2 h 1 min')
    """
    found = known(value)
    if found is None:
        return NOTHING
    if found < 10:
        return f"{found:.1f} s"
    whole = round(found)
    if whole < 60:
        return f"{whole} s"
    large, small, names = (
        (whole // 60, whole % 60, "min s") if whole < 3600 else (whole // 3600, whole % 3600 // 60, "h min")
    )
    first, second = names.split()
    return f"{large} {first} {small} {second}" if small else f"{large} {first}"


def milliseconds(value: object) -> str:
    """Write milliseconds with three significant figures."""
    found = known(value)
    return NOTHING if found is None else f"{float(f'{found:.3g}'):g} ms"


def plain(value: Any) -> str:
    """Write any JSON value of a ledger or a fact so that a person can read it; of a sha256 the first 12 digits.

    >>> plain(["weights.pth (sha256 " + "0123456789abcdef" * 4 + ")", True, None])
    'weights.pth (sha256 0123456789ab…), yes, –'
    """
    if value is None or value in ("", [], (), {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(entry) for entry in value)
    return SHA256.sub(r"\1…", value) if isinstance(value, str) else json.dumps(value)


def letter(place: int) -> str:
    """Return the sign of the candidate at a place: A to Z, then A2 and so on."""
    return chr(65 + place % 26) + (str(place // 26 + 1) if place >= 26 else "")
