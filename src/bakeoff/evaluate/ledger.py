"""The fairness ledger: every condition and its value for every candidate; an undeclared difference is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bakeoff.errors import Refused
from bakeoff.findings import printable

Status = Literal["equal", "declared", "undeclared"]

HIDDEN_FACTS = ("weights_hash", "metrics")  # of single runs; they mean nothing for a candidate
LISTED_FACTS = ("licence", "pretraining", "parameters", "flops", "epochs_done")
NOTES = {
    "model.weights": "what the weights saw before is part of the candidate",
    "recipe.checkpoint": "the rule that picks the checkpoint differs; the best of many validations looks better",
    "recipe.epochs": "the number of training images seen differs",
    "recipe.augment": "the augmentation differs",
    "recipe.derived": "the derived images trained on beside the originals differ; equally many images are seen",
}


@dataclass(frozen=True)
class Control:
    """One line of the fairness ledger: a condition and its value for every candidate.

    `status`: "equal", "declared" (differs because the candidate says so) or "undeclared" (nothing may be ranked).
    """

    name: str
    values: dict[str, Any]
    status: Status
    note: str = ""


@dataclass(frozen=True)
class Conditions:
    """What one candidate's runs were made under: settings by place (seed, repeat, fold), its spec, and its facts."""

    settings: Mapping[Hashable, Mapping[str, Any]]
    specs: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


def ledger(candidates: Mapping[str, Conditions]) -> tuple[Control, ...]:
    """Return settings first, then what the candidates declare, then where their weights come from.

    A setting that differs is declared where the spec holds a field of the same name that differs too (an own input
    size, for instance).  Raises Refused when one candidate's runs were trained from different specs.
    """
    specs = {name: _spec(name, conditions.specs) for name, conditions in candidates.items()}
    declared = _spec_controls(specs)
    different = {c.name.rpartition(".")[2]: c.name for c in declared if c.status == "declared"}
    settings = tuple(_setting(key, candidates, different) for key in _keys(candidates))
    return (*settings, *declared, _origin(specs, candidates), *_facts(candidates))


def refuse_undeclared(controls: Sequence[Control]) -> None:
    """Raise Refused when a condition differs that no candidate declares, naming the condition and its values."""
    for control in controls:
        if control.status == "undeclared":
            values = ", ".join(f"{printable(name)} has {_short(value)}" for name, value in control.values.items())
            what = {"data": "the data", "split": "the split"}.get(control.name, control.name)
            raise Refused(
                f"not comparable: {what} ({control.name}) differs and no candidate declares it: {values}; train all "
                "under equal conditions (run the study again in a new folder), or make it part of a candidate"
            )


def summarised(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts of a candidate from those of its runs: medians of numbers, else the one value or all of them.

    What is not finite becomes None.
    """
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for facts in runs for key in facts if key not in HIDDEN_FACTS):
        values = [facts[key] for facts in runs if facts.get(key) is not None]
        if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            found[key] = _median(values)
        else:
            found[key] = _single([_plain(value) for value in values]) if values else None
    return found


def _median(values: Sequence[float]) -> float | None:
    """Return the median, whole where all values are."""
    middle = float(np.median(values))
    if not math.isfinite(middle):
        return None
    return int(middle) if middle.is_integer() and all(isinstance(v, int) for v in values) else middle


def _keys(candidates: Mapping[str, Conditions]) -> list[str]:
    """Return every settings key, in the order of appearance."""
    runs = (settings for conditions in candidates.values() for settings in conditions.settings.values())
    return list(dict.fromkeys(key for settings in runs for key in settings))


def _setting(key: str, candidates: Mapping[str, Conditions], declared: Mapping[str, str]) -> Control:
    """Compare one setting run by run: it may vary between seeds if it varies alike for all candidates."""
    by_place = {
        name: {place: _plain(run.get(key)) for place, run in conditions.settings.items()}
        for name, conditions in candidates.items()
    }
    values = {name: _single(list(found.values())) for name, found in by_place.items()}
    places = {place for found in by_place.values() for place in found}
    same = all(_alike([found[place] for found in by_place.values() if place in found]) for place in places)
    if same:
        return Control(key, values, "equal")
    if key in declared:
        return Control(key, values, "declared", f"follows from {declared[key]}")
    return Control(key, values, "undeclared")


def _spec_controls(specs: Mapping[str, Mapping[str, Any]]) -> tuple[Control, ...]:
    """Return a control per field of model and recipe."""
    flat = {name: _flat({k: v for k, v in spec.items() if k != "name"}) for name, spec in specs.items()}
    controls = []
    for key in dict.fromkeys(key for fields in flat.values() for key in fields):
        values = {name: fields.get(key) for name, fields in flat.items()}
        status: Status = "equal" if _alike(list(values.values())) else "declared"
        controls.append(Control(key, values, status, NOTES.get(key, "") if status == "declared" else ""))
    return tuple(controls)


def _origin(specs: Mapping[str, Mapping[str, Any]], candidates: Mapping[str, Conditions]) -> Control:
    """Return which candidates start from pretrained weights."""
    values: dict[str, Any] = {}
    for name, spec in specs.items():
        weights = str(spec.get("model", {}).get("weights") or "none")
        pretraining = candidates[name].facts.get("pretraining")
        pretraining = None if pretraining == "none" else pretraining
        source = pretraining or (weights if weights not in ("none", "pretrained") else "")
        scratch = weights == "none" and not pretraining
        values[name] = "from scratch" if scratch else f"pretrained ({source})" if source else "pretrained"
    fresh = [printable(name) for name, value in values.items() if value == "from scratch"]
    rest = [printable(name) for name in values if values[name] != "from scratch"]
    if not fresh or not rest:
        return Control("start", values, "equal" if _alike(list(values.values())) else "declared")
    note = (
        f"{', '.join(rest)} learned from other data before, {', '.join(fresh)} did not: "
        "a difference between them is that of network and pretraining together"
    )
    return Control("start", values, "declared", note)


def _facts(candidates: Mapping[str, Conditions]) -> tuple[Control, ...]:
    """List the facts that readers of a comparison ask for; they follow from the candidates."""
    controls = []
    for key in LISTED_FACTS:
        values = {name: _plain(conditions.facts.get(key)) for name, conditions in candidates.items()}
        if any(value is not None for value in values.values()):
            controls.append(Control(key, values, "equal" if _alike(list(values.values())) else "declared"))
    return tuple(controls)


def _spec(name: str, specs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the one spec that all runs of a candidate share."""
    first = _flat(specs[0])
    for other in map(_flat, specs[1:]):
        for key in dict.fromkeys((*first, *other)):
            if first.get(key) != other.get(key):
                raise Refused(
                    f"{printable(name)}: its runs were trained in different ways: {key} is {_short(first.get(key))} in "
                    f"one and {_short(other.get(key))} in another; run the study again in a new folder"
                )
    return specs[0]


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as dotted keys; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON; what is not finite becomes None."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _alike(values: Sequence[Any]) -> bool:
    """Say whether all values are the same."""
    return all(value == values[0] for value in values)


def _single(values: Sequence[Any]) -> Any:
    """Return the one value, or the list of distinct ones."""
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    return distinct[0] if len(distinct) == 1 else distinct


def _short(value: Any) -> str:
    """Return a value for a sentence; hashes are cut."""
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 40 else f"{text[:16]}…"
