"""What equal tuning tried and chose, and what a comparison says of it (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bakeoff.errors import Refused
from bakeoff.evaluate.ledger import Control, Status
from bakeoff.evaluate.pairs import Pair
from bakeoff.evaluate.verdict import Unit
from bakeoff.findings import Finding, listed, plural, printable

Part = tuple[int, int]  # repeat, fold


@dataclass(frozen=True)
class Trial:
    """One setting tried: its place in the space, and the headline on validation; None where the trial failed."""

    number: int  # 0 is the recipe as declared
    point: dict[str, Any]  # by the names of the space
    value: float | None
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Choice:
    """The trials of a candidate in one part of the split, and the best of them.

    `settings` are what the best lays over the candidate, by dotted path ({} for the default); `edges` names the ends
    of the space that it lies on ("rate: low").  `best` is None where every trial failed.
    """

    repeat: int
    fold: int
    images: int  # of validation
    trials: tuple[Trial, ...]
    best: int | None
    settings: dict[str, Any]
    edges: tuple[str, ...] = ()

    @property
    def default(self) -> float | None:
        """The headline of trial 0."""
        return self.trials[0].value if self.trials else None

    @property
    def tuned(self) -> float | None:
        """The headline of the best trial."""
        return next((trial.value for trial in self.trials if trial.number == self.best), None)


@dataclass(frozen=True)
class Tuned:
    """How one candidate was tuned: `asked` trials for each choice; 0: not at all, as the candidate declares.

    `capped` says that the device-seconds were limited, `nested` that each part of a cross-validation chose for itself;
    `needed` is the number of validation images below which a choice is largely luck.
    """

    candidate: str
    asked: int
    choices: tuple[Choice, ...] = ()
    capped: bool = False
    nested: bool = True
    needed: int = 0

    @property
    def used(self) -> int:
        """All trials made, failed ones too."""
        return sum(len(choice.trials) for choice in self.choices)

    @property
    def failed(self) -> int:
        """The trials that gave no score."""
        return sum(trial.value is None for choice in self.choices for trial in choice.trials)

    @property
    def seconds(self) -> float:
        """Device-seconds of all trials."""
        return float(sum(trial.seconds for choice in self.choices for trial in choice.trials))

    @property
    def default(self) -> float | None:
        """The headline of the default on validation, the mean over the choices that have one of both."""
        return _mean([c.default for c in self._scored])

    @property
    def tuned(self) -> float | None:
        """The headline of the best trial on validation, the mean over the same choices."""
        return _mean([c.tuned for c in self._scored])

    @property
    def edges(self) -> dict[str, int]:
        """How many choices lie on each end of the space ("rate: low")."""
        every = [edge for choice in self.choices for edge in choice.edges]
        return {edge: every.count(edge) for edge in sorted(set(every))}

    @property
    def taken(self) -> str:
        """What was chosen, in words: by the names of the space, or in how many parts the default was kept."""
        if not self.choices:
            return "not tuned"
        kept = sum(not choice.best for choice in self.choices)
        if len(self.choices) > 1:
            return f"by part; the default in {kept} of {len(self.choices)}"
        (choice,) = self.choices
        point = next((trial.point for trial in choice.trials if trial.number == choice.best), {})
        if not choice.best:
            return "the default"
        return ", ".join(f"{named(path)} {_written(value)}" for path, value in point.items())

    @property
    def _scored(self) -> list[Choice]:
        return [choice for choice in self.choices if choice.default is not None and choice.tuned is not None]


def named(path: str) -> str:
    """Return a dimension of the space as people read it: "rate factor", "weight_decay".

    >>> named("rate"), named("recipe.weight_decay")
    ('rate factor', 'weight_decay')
    """
    return "rate factor" if path == "rate" else path.removeprefix("recipe.").removeprefix("model.")


def _written(value: Any) -> str:
    """Write a setting."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def best_of(trials: Sequence[Trial], higher_is_better: bool) -> int | None:
    """Return the number of the best trial, the earlier one where two are equal; None where all failed."""
    sign = 1 if higher_is_better else -1
    scored = [(sign * trial.value, -trial.number) for trial in trials if trial.value is not None]
    return -max(scored)[1] if scored else None


def controls(
    tuning: Sequence[Tuned], chosen: Mapping[str, Sequence[tuple[Part, Mapping[str, Any]]]]
) -> tuple[Control, ...]:
    """Return what the ledger says: the trials of each candidate, and the settings that its runs were trained with.

    `chosen` holds (part, settings) of every run of a candidate.  Numbers of trials that differ are undeclared unless a
    candidate goes without tuning by its own word or the seconds were capped for all.
    Raises Refused when the runs of one part were trained with different settings.
    """
    known = [one for one in tuning if one.candidate in chosen]
    if not any(one.asked for one in known):
        return ()
    used = {one.candidate: one.used for one in known}
    rivals = [one for one in known if one.asked]
    fair = len({one.used for one in rivals}) < 2 or all(one.capped for one in rivals)
    same = len(set(used.values())) < 2
    status: Status = "equal" if same else "declared" if fair else "undeclared"
    note = "" if same else "tune = false has none" if len(rivals) < len(known) else "device-seconds are capped"
    shown = {name: _settings(name, found) for name, found in chosen.items()}
    alike = all(value == next(iter(shown.values())) for value in shown.values())
    return (
        Control("tuning.trials", used, status, note if status != "undeclared" else ""),
        Control(
            "tuning.chosen", shown, "equal" if alike else "declared", "laid over the declared recipe, by validation"
        ),
    )


def _settings(name: str, found: Sequence[tuple[Part, Mapping[str, Any]]]) -> Any:
    """Return the one setting that all of a candidate's runs share, or the list of those of its parts."""
    by_part: dict[Part, dict[str, Any]] = {}
    for part, settings in found:
        if by_part.setdefault(part, dict(settings)) != settings:
            raise Refused(
                f"{printable(name)}: its runs were trained with different tuned settings; run the study again, it "
                "trains what is missing"
            )
    every = list(by_part.values())
    return every[0] if all(other == every[0] for other in every) else every


def twins(tuning: Sequence[Tuned], specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return for each tuned candidate the untuned one that is declared alike, where there is one."""
    bare = {name: {key: value for key, value in spec.items() if key != "name"} for name, spec in specs.items()}
    known = [one for one in tuning if one.candidate in specs]
    plain = [one.candidate for one in known if not one.asked]
    pairs = ((one.candidate, other) for one in known if one.asked for other in plain)
    return {name: other for name, other in pairs if bare[name] == bare[other]}


def findings(tuning: Sequence[Tuned], pairs: Sequence[Pair], twins: Mapping[str, str], unit: Unit) -> list[Finding]:
    """Return what there is to say about tuning: default beside tuned first, then what limits its worth.

    `twins` maps a tuned candidate to the one with the same declaration that was not tuned: their difference on the
    test images is what tuning bought there.
    """
    tuned = [one for one in tuning if one.choices]
    if not tuned:
        absent = "Default beside tuned: not applicable because no candidate was tuned in this study."
        return [Finding("tuning", "info", absent)]
    trials = max(len(choice.trials) for one in tuned for choice in one.choices)
    beside = "; ".join(_beside(one, unit) for one in tuned)
    flattered = f" (the best of {trials} looks better than it is)" if trials > 1 else ""
    sentence = f"Default beside tuned, on validation{flattered}: {beside}. {_on_test(twins, pairs)}"
    return [
        Finding("tuning", "info", sentence),
        *_unequal(tuned),
        *(Finding("tuning-failed", "warning", _failures(one)) for one in tuned if one.failed),
        *(Finding("tuning-edge", "warning", _edges(one)) for one in tuned if one.edges),
        *_small(tuned),
        *_shared(tuned),
    ]


def _small(tuned: Sequence[Tuned]) -> list[Finding]:
    """Warn where settings were chosen on fewer validation images than a choice needs."""
    images, needed = min(choice.images for one in tuned for choice in one.choices), max(one.needed for one in tuned)
    if images >= needed:
        return []
    sentence = (
        f"Settings were chosen on {plural(images, 'validation image')}, fewer than {needed}: which trial comes first "
        "is largely luck there. Bring more images, or raise split.val."
    )
    return [Finding("tuning-validation", "warning", sentence)]


def _beside(one: Tuned, unit: Unit) -> str:
    """Write a candidate's default and tuned headline on validation."""
    name = printable(one.candidate)
    if one.tuned is None or one.default is None:
        best = _mean([choice.tuned for choice in one.choices])
        return f"{name}: every trial failed" if best is None else f"{name} failed by default -> {_shown(best, unit)}"
    kept = sum(choice.best == 0 for choice in one.choices)
    if kept == len(one.choices):
        return f"{name} keeps its default ({_shown(one.default, unit)})"
    parts = f", the default kept in {kept} of {len(one.choices)} parts" if kept else ""
    return f"{name} {_shown(one.default, unit)} -> {_shown(one.tuned, unit)}{parts}"


def _shown(value: float, unit: Unit) -> str:
    """Write a headline: percent metrics in percent."""
    return f"{100 * value:.1f} %" if unit.percent else f"{value:.4g}"


def _on_test(twins: Mapping[str, str], pairs: Sequence[Pair]) -> str:
    """Say what tuning bought on the test images, where a default stands in the contest too."""
    wanted = [{name, twin} for name, twin in twins.items()]
    found = [pair.sentence.rstrip(".") for pair in pairs if {pair.a, pair.b} in wanted]
    if found:
        return f"On the test images: {'; '.join(found)}."
    return "What it bought on the test images is seen where a candidate listed again with tune = false is tested too."


def _unequal(tuned: Sequence[Tuned]) -> list[Finding]:
    """Say which candidates had fewer trials than others in the same device-seconds."""
    if len({one.used for one in tuned}) < 2:
        return []
    counts = ", ".join(f"{printable(one.candidate)} {one.used}" for one in tuned)
    why = (
        "an equal cap of device-seconds buys a slow candidate fewer" if all(one.capped for one in tuned) else "unequal"
    )
    return [Finding("tuning-unequal", "warning", f"Trials were not equally many ({counts}): {why}.")]


def _failures(one: Tuned) -> str:
    """Say how many trials of a candidate failed."""
    errors = list(
        dict.fromkeys(
            (t.error or "no score").partition(":")[0] for c in one.choices for t in c.trials if t.value is None
        )
    )
    return (
        f"{one.failed} of {plural(one.used, 'trial')} of {printable(one.candidate)} failed ({listed(errors, 2)}); they "
        "count as used."
    )


def _edges(one: Tuned) -> str:
    """Say on which ends of the space a candidate's choices lie."""
    many = len(one.choices) > 1
    ends = ", ".join(
        f"{edge} end" + (f" in {n} of {len(one.choices)} parts" if many else "") for edge, n in one.edges.items()
    )
    return (
        f"{printable(one.candidate)}: the best trial lies on the edge of the space ({ends}); a better one may lie "
        "beyond: widen tune.space in a new study."
    )


def _shared(tuned: Sequence[Tuned]) -> list[Finding]:
    """Warn where one choice was made for all folds."""
    if all(one.nested for one in tuned):
        return []
    sentence = (
        "Settings were chosen once, on images that other folds test (tune.nested = false): tuned candidates are "
        "flattered a little; tune.nested = true chooses in every part anew."
    )
    return [Finding("tuning-not-nested", "warning", sentence)]
