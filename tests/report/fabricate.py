"""A fabricated study folder: simulated outcomes, histories and pictures, and a comparison with plain t intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax
from sklearn.datasets import load_digits

from bakeoff.compare import Comparison, Control, Estimate, Level, Pair, Row
from bakeoff.files import write_json, write_text
from bakeoff.findings import Finding
from bakeoff.seeds import generator
from bakeoff.store import Run, StudyFolder
from bakeoff.tasks.classification import Classification
from bakeoff.tasks.task import Outcomes

Floats = NDArray[np.float64]
HEADLINE = "accuracy"
TOML = 'data = "digits"\nseeds = 5  # <script>alert("toml")</script>\n\n[[candidates]]\narch = "small:cnn"\n'


@dataclass(frozen=True)
class Plan:
    """What to fabricate: candidates and their skill (about 1 is weak, 4 strong), runs, classes, and test images."""

    names: tuple[str, ...] = ("resnet", "cnn", "mlp")
    skills: tuple[float, ...] = (4.0, 3.4, 2.2)
    classes: tuple[str, ...] = tuple(str(i) for i in range(10))
    images: int = 400
    seeds: int = 5
    folds: int = 1
    level: Level = "L1"
    failed: tuple[tuple[str, int], ...] = (("mlp", 3),)
    epochs: int = 12
    prefix: str = "digit-"


def make_study(path: Path, plan: Plan | None = None) -> StudyFolder:
    """Write a whole study folder and return it."""
    plan, folder = plan or Plan(), StudyFolder(path)
    truth = generator(1, "truth").integers(0, len(plan.classes), plan.images)
    ids = [f"{plan.prefix}{i:04d}.png" for i in range(plan.images)]
    _write_data(folder, plan, truth, ids)
    outcomes = {run.id: made for run, made in _runs(plan, truth, ids) if _write_run(folder, plan, run, made)}
    write_json(folder.comparison, comparison(plan, folder.runs(), outcomes).to_json())
    return folder


def _write_data(folder: StudyFolder, plan: Plan, truth: NDArray[np.int64], ids: list[str]) -> None:
    """Write data, split, audit, execution, planner, study.toml and the pixel cache."""
    records = [
        {"id": i, "image": i, "target": int(t), "group": None, "split": None, "frame": None}
        for i, t in zip(ids, truth, strict=True)
    ]
    data = {"task": "classification", "classes": list(plan.classes), "source": "digits", "format": "folder"}
    write_json(folder.data, {**data, "fingerprint": "f" * 64, "records": records})
    parts = [
        {"train": ids[: plan.images // 2], "val": ids[: plan.images // 8], "test": ids, "repeat": r, "fold": f}
        for r in range(plan.seeds if plan.folds > 1 else 1)
        for f in range(plan.folds)
    ]
    unbalanced = Finding("unbalanced-split", "info", "Class 3 is 4 % of train and 9 % of test.")
    write_json(folder.split, {"parts": parts, "seed": 0, "hash": "5" * 64, "findings": [unbalanced.to_json()]})
    audit = [
        Finding(
            "duplicate",
            "warning",
            f"{ids[0]} and {ids[1]} are the same picture; they were kept in one part.",
            (ids[0], ids[1]),
        ),
        Finding("outlier", "info", "12 images look unlike all others; look at them.", tuple(ids[2:14])),
        Finding("blurred", "info", "No image is blurred beyond the rest."),
    ]
    write_json(folder.audit, {"findings": [finding.to_json() for finding in audit]})
    versions = {"bakeoff": "0.1.0", "torch": "2.14.1", "python": "3.11.2"}
    precision = {"chosen": "bf16", "channels_last": True, "why": "1.9 times the images per second of fp32"}
    write_json(folder.execution, {"command": "bakeoff run study.toml", "versions": versions, "precision": precision})
    sentence = f"{plan.seeds} seeds and {plan.images} test images find a gap of 2.9 points with 80 % power."
    table = {"50 images": {"3 seeds": 13.4, "10 seeds": 9.0}, "5000 images": {"3 seeds": 3.3, "10 seeds": 1.6}}
    write_json(folder.planner, {"sentence": sentence, "table": table})
    write_text(folder.study, TOML)
    _write_pixels(folder, truth)


def _write_pixels(folder: StudyFolder, truth: NDArray[np.int64]) -> None:
    """Write 32-pixel pictures of handwritten digits (class modulo 10) with a tint per class."""
    digits = load_digits()
    of_class = [np.flatnonzero(digits.target == k) for k in range(10)]
    chosen = [of_class[t % 10][i % len(of_class[t % 10])] for i, t in enumerate(truth)]
    grey = np.kron(digits.images[chosen] / 16, np.ones((4, 4)))
    tint = 0.55 + 0.45 * generator(2, "tint").random((int(truth.max()) + 1, 3))
    pixels = (255 * grey[..., None] * tint[truth][:, None, None, :]).astype(np.uint8)
    folder.cache.mkdir(parents=True, exist_ok=True)
    np.save(folder.cache / "pixels-32-squash.npy", pixels)
    write_json(folder.cache / "pixels-32-squash.json", {"fingerprint": "f" * 64, "size": 32, "resize": "squash"})


def _runs(plan: Plan, truth: NDArray[np.int64], ids: list[str]) -> Iterator[tuple[Run, Outcomes]]:
    """Yield every run with its outcomes; under cross-validation a run tests one fold of the images."""
    for (c, name), seed, fold in product(enumerate(plan.names), range(plan.seeds), range(plan.folds)):
        here = np.arange(fold, plan.images, plan.folds)
        scores = _scores(plan, truth, c, seed)[here].astype(np.float32)
        outcomes = Outcomes(tuple(ids[i] for i in here), plan.classes, {"truth": truth[here], "scores": scores})
        failed = (name, seed) in plan.failed
        run = Run(
            id=f"c{c}-s{seed}-{fold:04d}",
            candidate=name,
            seed=seed,
            repeat=seed if plan.folds > 1 else 0,
            fold=fold,
            state="failed" if failed else "done",
            spec={"name": name},
            settings={"split": "5" * 64},
            facts=_facts(plan, c, f"{c}{seed}{fold}" + "ab" * 30),
            error="the loss became nan at step 312" if failed else None,
        )
        yield run, outcomes


def _scores(plan: Plan, truth: NDArray[np.int64], c: int, seed: int) -> Floats:
    """Return probabilities (images, classes): images differ in difficulty, and each class has one that it resembles."""
    every, size = np.arange(plan.images), len(plan.classes)
    hard, draws = generator(3, "hard").normal(0, 1.6, plan.images), generator(4, c, seed)
    logits = draws.normal(0, 1.0, (plan.images, size)) + generator(5, c).normal(0, 0.5, (plan.images, size))
    logits[every, truth] += plan.skills[c] - hard + draws.normal(0, 0.15)
    logits[every, (truth + 3) % size] += 0.8 + 0.5 * hard
    scores: Floats = softmax(1.4 * logits, axis=1)
    return scores


def _facts(plan: Plan, c: int, weights: str) -> dict[str, Any]:
    """Return what was measured: later candidates are smaller and quicker."""
    return {
        "parameters": 11_200_000 // 6**c,
        "flops": 1.8e9 / 7**c,
        "latency_ms": 5.1 / 2.2**c,
        "seconds": 340 / 2**c,
        "images_per_second": 210.0 * (c + 1),
        "weights_hash": weights,
        "licence": "Apache-2.0",
        "pretraining": None,
        "epochs_done": plan.epochs,
        "best_epoch": plan.epochs - 1,
    }


def _write_run(folder: StudyFolder, plan: Plan, run: Run, outcomes: Outcomes) -> bool:
    """Write one run's files; return whether it finished."""
    here, done = folder.run(run.id), run.state == "done"
    here.write(run)
    draws, best = generator(6, run.id), Classification(plan.classes).metrics(outcomes)["accuracy"]
    lines: list[dict[str, Any]] = [{"kind": "stage", "epoch": 3, "step": 30, "stage": 1}]
    for epoch in range(plan.epochs if done else plan.epochs // 2):
        left = float(np.exp(-epoch / 3))
        accuracy = float(np.clip(best - left * (best - 0.1) + draws.normal(0, 0.01), 0, 1))
        losses = {"train_loss": 0.05 + 2.2 * left * draws.uniform(0.9, 1.1), "val_loss": 0.3 + 2.1 * left}
        times = {"step": 10 * epoch, "rate": 1e-3, "seconds": 3.1, "images_per_second": 210.0}
        lines.append({"kind": "epoch", "epoch": epoch, **times, **losses, "val": {"accuracy": accuracy}})
    write_text(here.history_file, "".join(json.dumps(line) + "\n" for line in lines))
    if done:
        here.write_outcomes(outcomes)
        here.model.write_bytes(b"weights")
    return done


def _mean(values: Floats) -> Estimate:
    """Return a mean with a t interval over runs, or with the binomial one when there is a single run."""
    mean = float(values.mean())
    half = 1.96 * (mean * (1 - mean) / 400) ** 0.5
    if len(values) > 1:
        half = max(half, float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5))
    return Estimate(mean, mean - half, mean + half)


def comparison(plan: Plan, runs: list[Run], outcomes: dict[str, Outcomes]) -> Comparison:
    """Return a comparison that has the shape, and about the numbers, of a real one."""
    task = Classification(plan.classes)
    metrics = {run.id: task.metrics(made) for run in runs if (made := outcomes.get(run.id))}
    rows = sorted((_row(name, runs, metrics) for name in plan.names), key=_rank)
    values = {
        n: np.array([metrics[r.id][HEADLINE] for r in runs if r.candidate == n and r.id in metrics]) for n in plan.names
    }
    pairs = tuple(
        _pair(plan, a.candidate, b.candidate, values) for a, b in combinations([row for row in rows if row.runs], 2)
    )
    best = [pair.b for pair in pairs if pair.a == rows[0].candidate and pair.kind != "better"]
    recipes = {name: {"epochs": 12, "rate": 1e-3 * (i + 1)} for i, name in enumerate(plan.names)}
    equal = ("data fingerprint", "split hash", "input size", "precision", "training images seen", "evaluator")
    return Comparison(
        task="classification",
        metric=HEADLINE,
        level=plan.level,
        eps=1.0,
        baseline=None,
        seeds=plan.seeds,
        images=plan.images,
        groups=plan.images,
        rows=tuple(rows),
        pairs=pairs,
        best_set=(rows[0].candidate, *best),
        verdict=f"{plan.level}: {pairs[0].sentence if pairs else 'one candidate, nothing to compare.'}",
        next_step="The images carry 71 % of the uncertainty: 600 more would settle it sooner than more seeds.",
        controls=(
            *(Control(name, dict.fromkeys(plan.names, "same for all"), "equal") for name in equal),
            Control("recipe", recipes, "declared", "part of the candidate"),
        ),
        findings=(
            Finding("swap", "info", "A minus B is minus (B minus A) for every pair."),
            Finding("failed-runs", "warning", f"{len(plan.failed)} of {len(runs)} runs failed; they are left out."),
        ),
    )


def _rank(row: Row) -> float:
    """Order rows: best headline first, candidates without a finished run last."""
    return -(row.metrics.get(HEADLINE, Estimate(0)).value or 0)


def _row(name: str, runs: list[Run], metrics: dict[str, dict[str, float]]) -> Row:
    """Return one candidate's row; log-loss has no interval, as if it could not be had."""
    done = [run for run in runs if run.candidate == name and run.id in metrics]
    keys = list(metrics[done[0].id]) if done else []
    values = {key: np.array([metrics[run.id][key] for run in done]) for key in keys}
    table = {key: Estimate(float(v.mean())) if key == "log_loss" else _mean(v) for key, v in values.items()}
    spread = float(values[HEADLINE].std(ddof=1)) if len(done) > 1 else None
    facts = {key: value for run in done[:1] for key, value in run.facts.items() if key != "weights_hash"}
    failures = tuple(f"seed {run.seed}: {run.error}" for run in runs if run.candidate == name and run.error)
    return Row(name, len(done), table, spread, facts, failures)


def _pair(plan: Plan, a: str, b: str, values: dict[str, Floats]) -> Pair:
    """Return one difference with a rough interval (the share of the images is made up)."""
    difference = float(values[a].mean() - values[b].mean())
    se = 0.012 + float(np.sqrt(sum(values[m].var() / len(values[m]) for m in (a, b))))
    low, high, p = difference - 2.2 * se, difference + 2.2 * se, float(2 * stats.norm.sf(abs(difference) / se))
    better = low > 0
    words = f"No evidence of a difference between {a} and {b}; a gap of {280 * se:.1f} points would have been found."
    if better:
        words = f"{a} is better than {b} by {100 * difference:.1f} points [{100 * low:.1f}, {100 * high:.1f}]."
    chance = Estimate(*(float(stats.norm.cdf(v / 0.02)) for v in (difference, low, high)))
    return Pair(
        *(a, b, difference, low, high, se, 12.0, p, min(1.0, 3 * p), None if plan.level == "L0" else chance),
        kind="better" if better else "undecided",
        sentence=words,
        image_share=0.71,
        detectable=2.8 * se,
    )
