"""What a study runs on: device, workers, threads, precision and layout, decided once and by measuring."""

from __future__ import annotations

import platform
from contextlib import closing
from importlib import metadata
from typing import Any

from bakeoff.engines.engine import Engine, Job, Message
from bakeoff.engines.local import LocalEngine, share_cores
from bakeoff.errors import BakeoffError, DataError, Refused, ResourceError, RunError, UsageError
from bakeoff.files import read_json, write_json
from bakeoff.prepare import Prepared, Tell, silent
from bakeoff.store import StudyFolder
from bakeoff.study import Study
from bakeoff.timing import choose

ERRORS: dict[int, type[BakeoffError]] = {2: UsageError, 3: DataError, 4: RunError, 5: ResourceError, 6: Refused}
PACKAGES = ("bakeoff", "torch", "torchvision", "timm", "numpy", "pillow")


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


def count_runs(study: Study) -> int:
    """Return how many runs a study has."""
    each = study.split.folds * study.split.repeats if study.split.folds > 1 else study.seeds
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
    jobs = [
        Job(
            candidate.name,
            "bakeoff.timing:measure",
            {
                "candidate": candidate.name,
                "model": candidate.model.model_dump(mode="json"),
                "recipe": candidate.recipe.model_dump(mode="json"),
                "classes": len(prepared.dataset.classes),
                "size": candidate.model.size or study.size,
                "task": prepared.dataset.task,
            },
        )
        for candidate in study.candidates
    ]
    found: dict[str, dict[str, float]] = {}
    with closing(open_engine(decided)) as engine:
        for message in engine.run(jobs):
            if message.kind == "fact":
                found[message.job_id] = message.content["seconds"]
            elif message.kind == "failed":
                raise as_error(message)
    return found


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
