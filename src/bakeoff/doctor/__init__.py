"""Check the environment and bakeoff's own promises, for every task, on tiny data."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import closing
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from bakeoff import execution
from bakeoff.doctor.trials import TRIALS
from bakeoff.engines.engine import Job
from bakeoff.engines.local import share_cores
from bakeoff.evaluate.statistics import crossed_t
from bakeoff.findings import Finding, Severity

PACKAGES = ("bakeoff", "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")
LOW_DISK, LOW_MEMORY = 5, 4  # GB


def doctor() -> tuple[Finding, ...]:
    """Return findings: `info` for what is in order, `warning` for what may hurt, `error` for what must be mended."""
    return (_versions(), _device(), _disk(), _memory(), *_tried(), _statistics())


def _tried() -> list[Finding]:
    """Try every task's small network in worker processes like those of a study; findings are ordered by task."""
    workers, threads = share_cores(len(TRIALS))
    decided = {"workers": workers, "threads": threads, "devices": ["cpu"]}
    jobs = [Job(task, "bakeoff.doctor.trials:attempt", {"task": task}) for task in TRIALS]
    found: dict[str, list[Finding]] = {task: [] for task in TRIALS}
    with closing(execution.open_engine(decided)) as engine:
        for message in engine.run(jobs):
            if message.kind == "fact":
                found[message.job_id].append(Finding.from_json(message.content))
            elif message.kind == "failed":
                words = f"{message.job_id}: its small network could not be tried: {message.content['error']}"
                found[message.job_id].append(Finding("trial", "error", words))
    return [finding for task in TRIALS for finding in found[task]]


def _versions() -> Finding:
    named = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return Finding("versions", "info", f"Python {platform.python_version()}, {named}")


def _device() -> Finding:
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return Finding("device", "info", f"GPU: {names}")
    return Finding("device", "info", f"no GPU that torch can use; runs will share {os.cpu_count()} processor cores")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    severity: Severity = "warning" if free < LOW_DISK else "info"
    return Finding("disk", severity, f"{free:.0f} GB are free in the working folder")


def _memory() -> Finding:
    if not hasattr(os, "sysconf"):
        return Finding("memory", "info", "memory: not applicable because this system does not tell")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    severity: Severity = "warning" if size < LOW_MEMORY else "info"
    return Finding("memory", severity, f"{size:.0f} GB of memory")


def _statistics() -> Finding:
    """Hold the crossed t against a case worked out by hand: 2 seeds of 2 models on 3 images."""
    a, b = np.array([[1.0, 1, 0], [1, 1, 1]]), np.array([[0.0, 1, 0], [0, 0, 1]])
    found = crossed_t(a, b).difference
    severity: Severity = "info" if abs(found - 0.5) < 1e-12 else "error"
    return Finding(
        "statistics", severity, f"the crossed t gives {found:.3f} for a difference of 0.500 worked out by hand"
    )
