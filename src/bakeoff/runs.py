"""Which runs a study has, what identifies each and what it saw, and training those that are not yet done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bakeoff.data.dataset import Dataset
from bakeoff.data.split import Split, Splits
from bakeoff.engines.engine import Job, Message
from bakeoff.errors import UsageError, nearest
from bakeoff.execution import as_error, guard, open_engine, versions
from bakeoff.files import digest, read_json
from bakeoff.models import python_file, resolve
from bakeoff.models.spec import ModelSpec
from bakeoff.models.weights import file_hash
from bakeoff.prepare import Prepared, Tell
from bakeoff.store import Purpose, Run, StudyFolder
from bakeoff.study import Candidate, Study
from bakeoff.train.checkpoint import clear

Place = tuple[int, int, int]  # seed, repeat, fold
Chosen = Mapping[str, Mapping[tuple[int, int], Mapping[str, Any]]]  # candidate -> (repeat, fold) -> what tuning chose


@dataclass(frozen=True)
class Arena:
    """Where a contest takes place: the question, the frozen data, what it runs on, its folder and its display."""

    study: Study
    prepared: Prepared
    execution: Mapping[str, Any]
    folder: StudyFolder
    tell: Tell


@dataclass(frozen=True)
class Variant:
    """What a run is for, and how it departs from its candidate: the fields of the same names in store.Run."""

    purpose: Purpose = "contest"
    chosen: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0


CONTEST = Variant()
NOTHING: Chosen = {}


def tuned(chosen: Chosen, candidate: Candidate, part: Split) -> Variant:
    """Return a contest run's variant: what tuning chose for a candidate in a part of the split."""
    return Variant(chosen=chosen.get(candidate.name, {}).get((part.repeat, part.fold), {}))


def plan_runs(arena: Arena, chosen: Chosen = NOTHING) -> list[Run]:
    """Return every run of the study, seed by seed, so that a study cut short has something of every candidate."""
    study = arena.study
    crossed = study.split.folds > 1
    seeds = [study.first_seed + number for number in range(1 if crossed else study.most_seeds)]
    planned = [
        make_run(arena, candidate, (seed, part.repeat, part.fold), tuned(chosen, candidate, part))
        for seed in seeds
        for part in arena.prepared.splits.parts
        for candidate in study.candidates
    ]
    if study.repeat_one:
        times = arena.execution["timings"]
        cheapest = min(study.candidates, key=lambda candidate: min(times[candidate.name].values()))
        first = next(planned_run for planned_run in planned if planned_run.candidate == cheapest.name)
        planned.append(replace(first, id=f"{first.id}-again"))
    return planned


def make_run(arena: Arena, candidate: Candidate, place: Place, variant: Variant = CONTEST) -> Run:
    """Return one run, not yet begun; its id ends in a hash of all that its numbers depend on."""
    (seed, repeat, fold), study, prepared = place, arena.study, arena.prepared
    model = resolve(candidate.model, prepared.dataset.task)
    spec = candidate.model_copy(update={"model": model}).model_dump(mode="json", exclude={"tune"})
    execution = arena.execution
    settings = {
        "data": prepared.dataset.fingerprint,
        "split": prepared.splits.hash,
        "size": candidate.model.size or study.size,
        "resize": study.resize,
        **({} if prepared.dataset.task == "classification" else {"judged": study.size}),
        "device": execution["devices"][0].split(":")[0],
        **{key: execution[key] for key in ("precision", "layout", "threads", "loaders")},
        **_contents(model),
        **{f"version of {name}": version for name, version in execution["versions"].items()},
    }
    departs = [] if variant == CONTEST else [asdict(variant)]
    hash8 = digest([spec, settings, place, *departs])[:8]
    where = f"r{repeat}f{fold}" if study.split.folds > 1 else f"s{seed}"
    kind = "" if variant.purpose == "contest" else f"{variant.purpose}-"
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in candidate.name)
    return Run(
        id=f"{safe[:60]}-{kind}{where}-{hash8}",
        candidate=candidate.name,
        seed=seed,
        repeat=repeat,
        fold=fold,
        spec=spec,
        settings=settings,
        purpose=variant.purpose,
        chosen=dict(variant.chosen),
        share=variant.share,
    )


def _contents(model: ModelSpec) -> dict[str, str]:
    """Return what the files behind a candidate hold: another file under the same name is another candidate."""
    found = {"weights": model.weights}
    if model.weights not in ("none", "pretrained") and Path(model.weights).is_file():
        found["weights"] = file_hash(Path(model.weights))
    if model.source == python_file.NAME:
        found["arch"] = python_file.source_hash(model.arch)
    return found


def part_of(model: Path, dataset: Dataset, part: str) -> tuple[str, ...]:
    """Return the ids that a run's split has in a part; UsageError when there is no such run or the data differ."""
    if part not in ("train", "val", "test"):
        raise UsageError(f"part must be train, val or test, not {part!r}{nearest(part, ('train', 'val', 'test'))}")
    study = StudyFolder(model.resolve().parent.parent)
    stored = study.run(model.name).read()
    if stored is None or not study.split.exists():
        raise UsageError(f"{model}: is not a run inside a study folder, so it has no {part} part; leave part out")
    splits = Splits.from_json(read_json(study.split))
    splits.check(dataset)
    if stored.settings["split"] != splits.hash:
        raise UsageError(f"{model}: was trained on another split than the one in {study.split}; leave part out")
    chosen = next(split for split in splits.parts if (split.repeat, split.fold) == (stored.repeat, stored.fold))
    ids: tuple[str, ...] = getattr(chosen, part)
    return ids


def unfinished(plan: Sequence[Run], folder: StudyFolder) -> list[Run]:
    """Return what is not done; a run that diverged would diverge again, one that was lost is tried again."""
    todo = []
    for planned in plan:
        stored = folder.run(planned.id).read()
        if stored is None:
            folder.run(planned.id).write(planned)
        elif stored.state == "done" or "diverged_at" in stored.facts:
            clear(folder.run(planned.id).checkpoints)  # a kill may have come between the end of a run and this
            continue
        todo.append(planned)
    return todo


def finish(arena: Arena, plan: Sequence[Run], name: str = "") -> None:
    """Train what a plan's runs still lack, as train() does; `name` tells the display which part of the study it is."""
    todo = unfinished(plan, arena.folder)
    arena.tell("", {"kind": "plan", "runs": len(plan), "done": len(plan) - len(todo), "name": name})
    train(arena, todo)


def train(arena: Arena, todo: Sequence[Run]) -> None:
    """Run what is to be done, in workers, and note what failed.

    Before the first, every network is guarded; Refused names a broken one, UsageError packages that changed since the
    study began.
    """
    folder = arena.folder
    jobs = [Job(r.id, "bakeoff.execute:execute", _payload(arena, r)) for r in todo]
    if not jobs:
        return
    _refuse_other_versions(folder, arena.execution["versions"])
    guard(arena.study, arena.prepared, dict(arena.execution), folder, arena.tell)
    with closing(open_engine(dict(arena.execution))) as engine:
        for message in engine.run(jobs):
            fact = {"kind": message.kind, **message.content} if message.kind != "fact" else message.content
            arena.tell(message.job_id, fact)
            if message.kind == "failed":
                _note_failure(folder, message)


def _payload(arena: Arena, planned: Run) -> dict[str, Any]:
    """Return what a worker needs to know of a run.  The one that repeats another is not looked into: it must agree."""
    looked = arena.study.execution.diagnose and planned.purpose == "contest" and not planned.id.endswith("-again")
    return {"study": str(arena.folder.path.resolve()), "run": planned.id, "diagnose": looked}


def _refuse_other_versions(folder: StudyFolder, begun: dict[str, str]) -> None:
    """Raise UsageError when packages changed since the study began: its runs would not be comparable."""
    now = versions()
    if changed := [f"{name} {begun[name]} (now {now[name]})" for name in begun if now.get(name) != begun[name]]:
        raise UsageError(
            f"{folder.path} was begun with {', '.join(changed)}: runs would not be comparable; install what it was "
            "begun with, or start another study folder"
        )


def _note_failure(folder: StudyFolder, message: Message) -> None:
    """Write a failed run down; a full disk or a bug stops the study."""
    if message.content["exit_code"] not in (4,):
        raise as_error(message)
    stored = folder.run(message.job_id).read()
    if stored is not None and stored.state != "failed":
        folder.run(message.job_id).write(replace(stored, state="failed", error=message.content["error"]))
