"""The sections that every task has: verdict, candidates, differences, cost, learning, checks, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bakeoff import guards
from bakeoff.compare import Comparison, Estimate
from bakeoff.evaluate.verdict import Unit
from bakeoff.findings import Finding, plural
from bakeoff.report.charts import forest
from bakeoff.report.material import Candidate, Material, read_part
from bakeoff.report.wording import LEVELS, known, number, plain, unit

# facts with a column of their own, and the metrics that have a whole table
SHOWN = ("parameters", "flops", "seconds", "latency_ms", "pretraining", "licence", "metrics")


@dataclass(frozen=True)
class Section:
    """A part of the page: `anchor` is its id, `title` its heading, `template` draws `content`."""

    anchor: str
    title: str
    template: str
    content: Mapping[str, Any]


def verdict(material: Material) -> Section:
    """The answer in a sentence, what kind of claim it is, and how sure it is."""
    comparison = material.comparison
    content = {
        "level": LEVELS[comparison.level],
        "unit": "repeat" if comparison.level == "L2" else "seed",
        "best": [material.by_name[name] for name in comparison.best_set if name in material.by_name],
        "chances": chances(comparison),
        "winner": winner(material),
    }
    return Section("verdict", "Verdict", "verdict.html.j2", content)


def chances(comparison: Comparison, most: int = 5) -> list[tuple[str, str, Estimate]]:
    """Return (best, other, P(best > other)) for the best-looking candidate, the closest rivals first."""
    best = comparison.rows[0].candidate if comparison.rows else ""
    found = []
    for pair in comparison.pairs:
        if pair.chance is not None and pair.a == best:
            found.append((best, pair.b, pair.chance))
        elif pair.chance is not None and pair.b == best:
            found.append((best, pair.a, turned(pair.chance)))
    return sorted(found, key=lambda entry: entry[2].value or 0.0)[:most]


def turned(chance: Estimate) -> Estimate:
    """Return P(B>A) from P(A>B)."""
    value, low, high = (None if v is None else 1 - v for v in (chance.value, chance.high, chance.low))
    value = None if chance.value is None else 1 - chance.value
    return Estimate(value, low, high)


def winner(material: Material) -> dict[str, Any] | None:
    """Return the trained model of the best-looking candidate: the run with the best validation headline."""
    if not material.candidates:
        return None
    first, metric = material.candidates[0], material.comparison.metric
    run = material.folder.best_run(first.name, metric, material.metric.higher_is_better)
    if run is None or not material.folder.run(run.id).model.exists():
        return None
    validated = any(fact.get("val") for fact in material.folder.run(run.id).history())
    return {"run": run, "file": f"runs/{run.id}/model.safetensors", "candidate": first, "validated": validated}


def candidates(material: Material) -> Section:
    """The table of candidates: headline, cost, origin, failures; then the exploratory metrics."""
    others = [name for name in material.metrics if name != material.comparison.metric]
    more = list(dict.fromkeys(key for row in material.comparison.rows for key in row.facts if key not in SHOWN))
    bounds = [v for row in material.comparison.rows for v in _ends(row.metrics.get(material.comparison.metric))]
    content = {"others": others, "more": more, "low": min(bounds, default=0.0), "high": max(bounds, default=1.0)}
    return Section("candidates", "Candidates", "candidates.html.j2", content)


def _ends(estimate: Estimate | None) -> list[float]:
    """Return the finite numbers of an estimate."""
    values = (estimate.value, estimate.low, estimate.high) if estimate else ()
    return [v for v in map(known, values) if v is not None]


def differences(material: Material) -> Section:
    """The forest plot of all pairs and the table behind it."""
    comparison, metric = material.comparison, material.metric
    factor, possible = (100 if metric.percent else 1), Unit(metric.percent).possible
    shown = [
        (pair.difference * factor, possible(pair.low) * factor, possible(pair.high) * factor, pair.kind)
        for pair in comparison.pairs
    ]
    band = f"±{number(comparison.eps, 1 if metric.percent else 3)} {unit(metric)}"
    content = {
        "plot": forest(shown, comparison.eps) if shown else None,
        "shown": shown,
        "cut": any(possible(end) != end for pair in comparison.pairs for end in (pair.low, pair.high)),
        "unit": unit(metric),
        "caption": forest_caption(comparison, band),
    }
    return Section("differences", "Differences", "differences.html.j2", content)


def forest_caption(comparison: Comparison, band: str) -> str:
    """Say in words what the forest plot shows."""
    clear = sum(pair.low > 0 or pair.high < 0 for pair in comparison.pairs)
    within = sum(pair.kind in ("equivalent", "identical") for pair in comparison.pairs)
    intervals, ending = f"{comparison.looks.confidence} interval", "gaps inside it do not matter to you."
    if len(comparison.pairs) == 1:
        where = "lies clear of zero" if clear else "holds zero"
        words = f"The {intervals} of the difference {where}{'; the pair is equivalent' if within else ''}."
        return f"{words} The band is {band}: {ending}"
    joint = ", simultaneous over all pairs" if len(comparison.rows) > 2 else ""
    return (
        f"{intervals}s of the difference{joint}. {clear} of {len(comparison.pairs)} intervals "
        f"{'lies' if clear == 1 else 'lie'} clear of zero; {plural(within, 'pair')} "
        f"{'is' if within == 1 else 'are'} equivalent. The band is {band}: {ending}"
    )


def key(entries: tuple[Candidate, ...]) -> tuple[tuple[str, str, str], ...]:
    """Return the key of a figure that shows these candidates."""
    return tuple((entry.letter, entry.colour, entry.name) for entry in entries)


def checks(material: Material) -> Section:
    """The fairness ledger, the planner's sentence, and all findings."""
    comparison = material.comparison
    order = {"undeclared": 0, "declared": 1, "equal": 2}
    controls = sorted(comparison.controls, key=lambda control: order[control.status])
    guarded = guards.findings(read_part(material.folder.guards))
    content = {
        "different": [control for control in controls if control.status != "equal"],
        "equal": [control for control in controls if control.status == "equal"],
        "tally": {status: sum(c.status == status for c in controls) for status in order},
        "planner": material.planner,
        "table": planner_rows(material.planner.get("table") or {}),
        "groups": [
            *([("Guards: were the networks whole before training?", guarded)] if guarded else []),
            ("Self-checks and findings of the comparison", comparison.findings),
            ("Findings of the audit", material.audit),
            ("Findings of the split", split_findings(material)),
        ],
    }
    return Section("checks", "Fairness and checks", "checks.html.j2", content)


def planner_rows(table: Mapping[str, Mapping[str, float]]) -> list[tuple[str, dict[str, float]]]:
    """Return the planner's rows ("200 images") and columns ("5 seeds") in the order of their numbers."""
    return [(images, dict(sorted(found.items(), key=_amount))) for images, found in sorted(table.items(), key=_amount)]


def _amount(entry: tuple[str, object]) -> int:
    """Return the number that a title begins with."""
    return int(entry[0].split()[0])


def split_findings(material: Material) -> tuple[Finding, ...]:
    """Return what the split noticed and the audit does not say already."""
    found = [Finding.from_json(entry) for entry in material.split.get("findings", ())]
    return tuple(finding for finding in found if finding not in material.audit)


def making(material: Material) -> Section:
    """Versions, seeds, hashes, data, runs, the command to repeat, and the study file."""
    execution = {name: value for name, value in material.execution.items() if name != "command"}
    records = material.data.get("records", ())
    content = {
        "command": material.execution.get("command")
        or (f"bakeoff run {material.folder.study.name}" if material.study else None),
        "execution": list(_flat(execution)),
        "images": len(records),
        "parts": split_sizes(material.split),
        "candidates": material.candidates,
    }
    return Section("making", "How it was made", "making.html.j2", content)


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as (name, text) lines."""
    lines: list[tuple[str, str]] = []
    for name, value in content.items():
        title = f"{prefix}{name}".replace("_", " ")
        lines += _flat(value, f"{title}: ") if isinstance(value, dict) else [(title, plain(value))]
    return lines


PARTS = ("repeat", "fold", "train", "val", "test")


def split_sizes(split: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return repeat, fold and the number of images in each part of every split."""
    return [
        {name: len(part[name]) if name in ("train", "val", "test") else part.get(name, 0) for name in PARTS}
        for part in split.get("parts", ())
    ]
