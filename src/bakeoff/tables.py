"""Answers as plain text: aligned columns for people, the same content as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bakeoff.compare import Comparison, Estimate
from bakeoff.evaluate.classes import per_class
from bakeoff.evaluate.score import Interval, Score
from bakeoff.evaluate.size_curve import Curve
from bakeoff.evaluate.tuned import Tuned
from bakeoff.evaluate.verdict import Unit
from bakeoff.evaluate.versus import Versus
from bakeoff.findings import lowered, plural, printable
from bakeoff.models.catalogue import Entry
from bakeoff.models.layers import LayerTable
from bakeoff.tasks import TASKS, classification, detection, instance, semantic
from bakeoff.tasks.task import Metric

METRICS: Mapping[str, Mapping[str, Metric]] = {  # all there are, whatever the number of classes
    "classification": classification.METRICS,
    "semantic": semantic.METRICS,
    "detection": detection.METRICS,
    "instance": instance.METRICS,
}
SHORT = {"iou": "IoU", "dice": "Dice", "boundary_iou": "boundary IoU", "ap": "AP", "ap50": "AP at .50", "ar": "AR"}


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return rows aligned under a header; the columns numbered in `right` are aligned right.

    >>> print(columns(["a", "b"], [["x", "10"], ["yy", "5"]], right=[1]))
    a    b
    x   10
    yy   5
    """
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(header))]
    lines = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)


def layers_text(table: LayerTable) -> str:
    """Show a layer table with its sums."""
    rows = [
        [str(number), row.name, row.type, "x".join(map(str, row.shape)), f"{row.parameters:,}"]
        for number, row in enumerate(table.rows, 1)
    ]
    body = columns(["", "layer", "type", "output", "parameters"], rows, right=[0, 4])
    sums = [
        f"rows                   {len(table.rows)}",
        f"parameters             {table.total_parameters:,} ({table.trainable_parameters:,} trainable)",
        f"input                  {table.input_mb:.2f} MB",
        f"forward/backward pass  {table.forward_backward_mb:.2f} MB for one image",
        f"parameters             {table.parameters_mb:.2f} MB",
    ]
    if table.other_parameters:
        sums.insert(2, f"outside of the rows    {table.other_parameters:,} parameters (tokens, position embeddings, …)")
    if table.groups:
        sums.append(f"layer groups           {len(table.groups)} from stem to head: {', '.join(table.groups)}")
    return "\n".join([body, "", *sums])


def layers_json(table: LayerTable) -> dict[str, Any]:
    """Return a layer table as JSON."""
    return asdict(table)


def catalogue_text(entries: Sequence[Entry]) -> str:
    """Show models one a line."""
    rows = [
        [
            f"{entry.family}:{entry.name}",
            f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "-",
            "yes" if entry.has_weights else "no",
            entry.licence or "-",
            entry.pretraining or "-",
            " ".join(entry.tasks),
        ]
        for entry in entries
    ]
    return columns(["model", "parameters", "weights", "licence", "pretraining", "tasks"], rows, right=[1])


def score_text(score: Score) -> str:
    """Show every metric of a score with its interval."""
    table = TASKS[score.task](score.outcomes.classes).table
    rows = [[table[name].title, *cells(table[name], found)] for name, found in score.metrics.items()]
    body = columns(["metric", "value", "95 % interval"], rows, right=[1])
    classes = ["", classes_text(per_class(score.task, score.outcomes))] if score.task != "classification" else []
    notes = [f"{finding.severity}: {finding.sentence}" for finding in score.findings]
    size = f"{plural(score.images, 'image')} in {plural(score.groups, 'independent group')}"
    versus = ["", versus_text(score.against, table)] if score.against is not None else []
    return "\n".join([body, *classes, "", size, *notes, *versus])


def versus_text(found: Versus, table: Mapping[str, Metric]) -> str:
    """Show the differences of two files of predictions, and what may be said of them."""
    rows = [[table[name].title, *cells(table[name], value)] for name, value in found.differences.items()]
    p = "" if found.p is None else f" p = {found.p:.2g}."
    header = [f"{printable(found.names[0])} less {printable(found.names[1])}", "difference", "95 % interval"]
    return "\n".join([columns(header, rows, right=[1]), "", f"{found.sentence}{p}"])


def classes_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show what a task says class by class: shares in percent, a dash where one is undefined."""
    names = list(rows[0]) if rows else []
    body = [[_class_cell(row[name]) for name in names] for row in rows]
    return columns([SHORT.get(name, name) for name in names], body, right=range(1, len(names)))


def _class_cell(value: object) -> str:
    """Show a name, a number of images, or a share."""
    if isinstance(value, float):
        return f"{100 * value:.2f} %"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


def comparison_text(comparison: Comparison) -> str:
    """Show the verdict, the candidates and what there is to say about them."""
    metric = METRICS[comparison.task][comparison.metric]
    rows = []
    for row in comparison.rows:
        value = cells(metric, row.metrics.get(comparison.metric, Estimate(None)))
        rows.append([row.candidate, *value, str(row.runs), *_costs(row.facts)])
    interval = f"{comparison.looks.confidence} interval"
    header = ["candidate", lowered(metric.title), interval, "runs", "parameters", "training", "per image"]
    body = columns(header, rows, right=[1, 3, 4, 5, 6])
    if any(one.choices for one in comparison.tuning):
        body = f"{body}\n\n{tuning_text(comparison.tuning, metric)}"
    if comparison.baseline is not None and len(comparison.pairs) > 2:  # the verdict counts them
        body = "\n".join([body, "", *(pair.sentence for pair in comparison.pairs)])
    failures = [f"{row.candidate}: {failure}" for row in comparison.rows for failure in row.failures]
    failures += [f"{printable(one.candidate)}: {one.sentence(Unit(metric.percent))}" for one in comparison.dropped]
    failures += [finding.sentence for finding in comparison.findings if finding.code == "race"]
    warnings = [f"{f.severity}: {f.sentence}" for f in comparison.findings if f.severity != "info"]
    return "\n".join([comparison.verdict, "", body, "", *failures, *warnings, comparison.next_step]).rstrip()


def tuning_text(tuning: Sequence[Tuned], metric: Metric) -> str:
    """Show what tuning tried and chose: trials, what they cost, and default beside tuned on validation."""
    rows = [
        [
            printable(one.candidate),
            str(one.used),
            f"{100 * one.failed / max(one.used, 1):.0f} %",
            f"{one.seconds:.0f} s",
            *("-" if value is None else shown(metric, value) for value in (one.default, one.tuned)),
            one.taken,
        ]
        for one in tuning
    ]
    header = ["tuning", "trials", "failed", "training", "default (validation)", "tuned (validation)", "chosen"]
    return columns(header, rows, right=range(1, 6))


def _costs(facts: Mapping[str, Any]) -> list[str]:
    """Show parameters, training time and latency; a dash for what no finished run has measured."""
    shapes = (("parameters", 1e-6, "{:.2f} M"), ("seconds", 1, "{:.0f} s"), ("latency_ms", 1, "{:.2f} ms"))
    return [form.format(facts[key] * unit) if facts.get(key) is not None else "-" for key, unit, form in shapes]


def curve_text(curve: Curve) -> str:
    """Show the points of every candidate, what twice the images would bring, and what the intervals do not cover."""
    metric = METRICS[curve.task][curve.metric]
    rows = [
        [
            printable(course.candidate),
            f"{100 * point.share:g} %",
            f"{point.images:,.0f}",
            *cells(metric, point.estimate),
            str(point.runs),
        ]
        for course in curve.courses
        for point in course.points
    ]
    header = ["candidate", "share", "training images", lowered(metric.title), "95 % interval", "runs"]
    failures = [f"{printable(one.candidate)}: {failure}" for one in curve.courses for failure in one.failures]
    sentences = [course.sentence for course in curve.courses]
    return "\n".join([columns(header, rows, right=[1, 2, 3, 5]), "", *sentences, "", *failures, *curve.notes]).rstrip()


def cells(metric: Metric, found: Estimate | Interval) -> list[str]:
    """Show a value and its interval; a dash where there is none."""
    value = "-" if found.value is None else shown(metric, found.value)
    if found.low is None or found.high is None:
        return [value, ""]
    return [value, f"[{shown(metric, found.low)}, {shown(metric, found.high)}]"]


def shown(metric: Metric, value: float) -> str:
    """Show a value in the metric's unit: percent metrics in percent."""
    return f"{100 * value:.2f} %" if metric.percent else f"{value:.4f}"
