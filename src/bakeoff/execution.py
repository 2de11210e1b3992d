"""What a study runs on: device, workers, threads, precision and layout, decided once and by measuring."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import metadata
from typing import Any

from bakeoff.engines.engine import Engine, Job, Message
from bakeoff.engines.local import LocalEngine, share_cores
from bakeoff.errors import BakeoffError, DataError, Refused, ResourceError, RunError, UsageError
from bakeoff.files import digest, read_json, write_json
from bakeoff.findings import printable
from bakeoff.models import python_file, resolve
from bakeoff.prepare import Prepared, Tell, silent
from bakeoff.store import StudyFolder
from bakeoff.study import Candidate, Study
from bakeoff.timing import choose

ERRORS: dict[int, type[BakeoffError]] = {2: UsageError, 3: DataError, 4: RunError, 5: ResourceError, 6: Refused}
PACKAGES = (
    *("bakeoff", "torch", "torchvision", "timm", "segmentation-models-pytorch"),
    *("numpy", "pillow", "opencv-python-headless", "faster-coco-eval"),
)


def decide(study: Study, prepared: Prepared, folder: StudyFolder, tell: Tell = silent) -> dict[str, Any]:
    """Decide device, workers, threads, precision and layout once per study folder; later calls read what was decided.

    Raises UsageError when the study now asks for something else than what its finished runs were trained with.
    """
    asked = study.execution
    if folder.execution.exists():
        return _decided_before(study, prepared, folder, tell)
    devices = find_devices(asked.device)
    workers, threads = share_cores(count_runs(study), devices)
    if asked.workers:
        workers, threads = asked.workers, max(1, workers * threads // asked.workers)
    decided = {
        "device": asked.device,
        "devices": list(devices),
        "workers": workers,
        "threads": asked.threads or threads,
    }
    timings = _timings(study, prepared, decided, tell)
    steps = [candidate.recipe.epochs / candidate.recipe.batch for candidate in study.candidates]
    precision, layout = choose([timings[c.name] for c in study.candidates], steps, asked.precision)
    decided |= {"precision": precision, "layout": layout, "timings": timings, "loaders": asked.loaders}
    decided |= {"versions": versions(), "platform": platform.platform(), "python": platform.python_version()}
    write_json(folder.execution, decided)
    tell("", {"kind": "decided", **{key: decided[key] for key in ("workers", "threads", "precision", "layout")}})
    return decided


def _decided_before(study: Study, prepared: Prepared, folder: StudyFolder, tell: Tell) -> dict[str, Any]:
    """Return what was decided when the study began; candidates that joined since are built and timed once."""
    decided: dict[str, Any] = read_json(folder.execution)
    kind = decided["devices"][0].split(":")[0]
    for key in ("precision", "threads", "device", "loaders"):
        wish = getattr(study.execution, key)
        if wish not in ("auto", 0, decided[key]) and (key, wish) != ("device", kind):
            raise UsageError(
                f"{folder.path} was begun with {key} = {decided[key]}, not {wish}: runs would not be comparable; "
                f"leave it, or start another study folder"
            )
    if kind != "cpu":  # there may be more or fewer of them by now, or none
        decided["devices"] = list(find_devices(kind if decided["device"] == "auto" else decided["device"]))
    joined = [candidate for candidate in study.candidates if candidate.name not in decided["timings"]]
    if joined:
        decided["timings"] |= _timings(study.model_copy(update={"candidates": tuple(joined)}), prepared, decided, tell)
        write_json(folder.execution, decided)
    return {**decided, "workers": study.execution.workers or decided["workers"]}


def guard(study: Study, prepared: Prepared, decided: dict[str, Any], folder: StudyFolder, tell: Tell = silent) -> None:
    """Try every candidate's network on made-up images, once; the results are kept for the report.

    Raises Refused, naming candidates and reasons, when one is broken: hours of training would say nothing about it.
    """
    if study.execution.guards == "off":
        return
    known: dict[str, Any] = read_json(folder.guards) if folder.guards.exists() else {}
    keys = {candidate.name: _tried(candidate, study, prepared) for candidate in study.candidates}
    todo = [c for c in study.candidates if known.get(c.name, {}).get("key") != keys[c.name]]
    if todo:
        tell("", {"kind": "phase", "name": "guards"})
        for fact in _ask("bakeoff.guards:check", todo, study, prepared, decided):
            known[fact["candidate"]] = {"key": keys[fact["candidate"]], "results": fact["results"]}
        write_json(folder.guards, {name: known[name] for name in keys})
    broken = [
        f"  {printable(name)}: {result['sentence']}"
        for name in keys
        for result in known[name]["results"]
        if not result["ok"]
    ]
    if broken:
        raise Refused(
            "these networks are broken, nothing was trained:\n" + "\n".join(broken) + "\nmend or remove them; to train "
            "them as they are, switch the guards off: --set execution.guards=off"
        )


def _tried(candidate: Candidate, study: Study, prepared: Prepared) -> str:
    """Hash all that a guard's answer depends on; a file that was mended is tried again."""
    model = resolve(candidate.model, prepared.dataset.task)
    source = python_file.source_hash(model.arch) if model.source == python_file.NAME else None
    data = [prepared.dataset.task, len(prepared.dataset.classes), model.size or study.size]
    return digest([model.model_dump(mode="json"), candidate.recipe.model_dump(mode="json"), source, data])


def count_runs(study: Study) -> int:
    """Return how many runs a study has."""
    each = study.split.folds * study.split.repeats if study.split.folds > 1 else study.most_seeds
    return len(study.candidates) * each + study.repeat_one


def find_devices(asked: str) -> tuple[str, ...]:
    """Return the devices to use: every GPU, else the CPU.  Raises ResourceError when what is asked for is not there."""
    import torch

    found = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    if asked == "cpu" or (asked == "auto" and not found):
        return ("cpu",)
    if asked in ("auto", "cuda") and found:
        return found
    if asked in found:
        return (asked,)
    raise ResourceError(f"device {asked!r} is not here; there is {', '.join(('cpu', *found))}")


def versions() -> dict[str, str]:
    """Return the versions of the packages that numbers may depend on."""
    return {name: metadata.version(name) for name in PACKAGES}


def _timings(study: Study, prepared: Prepared, decided: dict[str, Any], tell: Tell) -> dict[str, dict[str, float]]:
    """Build each candidate once and time its steps, in workers like those of the runs."""
    tell("", {"kind": "phase", "name": "measure"})
    facts = _ask("bakeoff.timing:measure", study.candidates, study, prepared, decided)
    return {fact["candidate"]: fact["seconds"] for fact in facts}


def _ask(
    entry: str, candidates: Sequence[Candidate], study: Study, prepared: Prepared, decided: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Call a function on each candidate's network in workers like those of the runs, and yield the facts it gives."""
    jobs = [
        Job(
            candidate.name,
            entry,
            {
                "candidate": candidate.name,
                "model": candidate.model.model_dump(mode="json"),
                "recipe": candidate.recipe.model_dump(mode="json"),
                "classes": len(prepared.dataset.classes),
                "size": candidate.model.size or study.size,
                "task": prepared.dataset.task,
            },
        )
        for candidate in candidates
    ]
    with closing(open_engine(decided)) as engine:
        for message in engine.run(jobs):
            if message.kind == "fact":
                yield message.content
            elif message.kind == "failed":
                raise as_error(message)


def as_error(message: Message) -> BakeoffError:
    """Turn a failed job back into the exception it was."""
    content = message.content
    error = ERRORS.get(content["exit_code"])
    if error is None:
        raise RuntimeError(content.get("traceback") or content["error"])
    return error(f"{message.job_id}: {content['error']}")


def open_engine(decided: dict[str, Any]) -> Engine:
    """Return the engine that runs execute on."""
    return LocalEngine(decided["workers"], decided["threads"], tuple(decided["devices"]))
