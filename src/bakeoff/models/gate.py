"""The weights gate: candidates whose weights may not be used freely are refused before anything trains."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bakeoff.data.dataset import TaskName
from bakeoff.errors import Refused
from bakeoff.findings import printable
from bakeoff.models import FAMILIES, TASK_NAMES, find, from_smp, from_timm, from_torchvision, licences, resolve, weights
from bakeoff.models.spec import ModelSpec

CLOSE = 40  # names that are looked at for one that may be used
USUAL = "mobilenetv2_100"


def stated(spec: ModelSpec, task: TaskName | None = None) -> str | None:
    """Return the licence of a spec's weights: what their source states, else what the user declared, else None.

    The source of published weights is their supplier; of a file its own metadata.
    """
    if Path(spec.weights).suffix in weights.FORMATS:
        found = weights.licence(weights.metadata(Path(spec.weights)))
    elif spec.weights == "pretrained":
        found = find(spec.arch, spec.source, task).card(spec.arch).licence
    else:  # one of several published weights by its supplier's name for them
        found = from_torchvision.SWAG if "SWAG" in spec.weights else from_smp.LICENCES.get(spec.weights)
    return found or spec.licence


def check_licences(specs: Mapping[str, ModelSpec], task: TaskName | None = None) -> None:
    """Raise Refused when weights of a candidate (name -> spec) are not under a permissive licence.

    It names every such candidate with its licence and the nearest weights that are.  Random weights always pass.
    """
    refused = []
    for name, given in specs.items():
        spec = resolve(given, task)
        licence = None if spec.weights == "none" else stated(spec, task)
        if spec.weights != "none" and licences.kind(licence) != "permissive":
            told = f"{spec.source}:{spec.arch} has weights with {licences.worded(licence)}"
            refused.append(f"\n  {printable(name)}: {told}; {_advice(spec, task)}")
    if refused:
        count = f"{len(refused)} of {len(specs)} candidates"
        raise Refused(f'licence = "permissive" leaves out {count}:{"".join(refused)}')


def _advice(spec: ModelSpec, task: TaskName | None) -> str:
    """Say what to take instead."""
    random = 'weights = "none"'
    if Path(spec.weights).suffix in weights.FORMATS:
        return f'declare it in the candidate\'s model, licence = "apache-2.0" say, if you know it, or take {random}'
    nearest = permissive(spec, task)
    return f"take {nearest} or {random}" if nearest else f"take {random}"


def permissive(spec: ModelSpec, task: TaskName | None = None) -> str | None:
    """Return the weights with a permissive licence whose name is nearest to a spec's; None where there are none."""
    for name in _candidates(spec, task):
        source, _, arch = name.partition(":")
        card = find(arch, source).card(arch)
        if card.pretraining not in (None, "none") and licences.kind(card.licence) == "permissive":
            return name
    return None


def _candidates(spec: ModelSpec, task: TaskName | None) -> Iterator[str]:
    """Yield names of models, the likeliest to take a spec's place first: the same network, then names alike."""
    decoder, colon, encoder = spec.arch.partition(":")
    twin = encoder if encoder.startswith(from_smp.UNIVERSAL) else f"{from_smp.UNIVERSAL}{encoder}"
    if colon and from_smp.has(f"{decoder}:{twin}", "semantic"):
        yield f"{from_smp.NAME}:{decoder}:{twin}"
    tasks = [task] if task else [one for one in TASK_NAMES if find(spec.arch, spec.source).has(spec.arch, one)]
    plain = spec.arch.partition(".")[0]
    if "classification" in tasks:
        yield from (f"{from_timm.NAME}:{name}" for name in from_timm.names() if name.partition(".")[0] == plain)
    names = {name: family.NAME for family in reversed(FAMILIES) for one in tasks for name in family.names(one)}
    yield from (f"{names[name]}:{name}" for name in difflib.get_close_matches(plain, list(names), CLOSE, 0.5))
    if "semantic" in tasks:
        backbones = [name for name in (plain.partition("_")[2], USUAL) if from_timm.has(name, "classification")]
        yield from (f"{from_smp.NAME}:unet:{from_smp.UNIVERSAL}{name}" for name in backbones)
