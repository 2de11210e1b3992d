"""compare(): what is refused, what the ledger lists, what the self-checks say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulated_runs import CLEAR, TASK, Plan, Results, changed, finding, hits, is_bee

from bakeoff.compare import Question, compare
from bakeoff.errors import Refused, UsageError
from bakeoff.tasks.task import Outcomes


def settings(**fields: Any) -> dict[str, Any]:
    """Return settings with some fields changed."""
    return {"data": "d0", "split": "s0", "size": 32, "precision": "fp32", **fields}


def other_images(results: Results) -> Results:
    """Let bee be tested on one image less."""
    return [(r, o.take(range(399)) if o and r.candidate == "bee" else o) for r, o in results]


def other_labels(results: Results) -> Results:
    """Let bee have another truth."""
    return [
        (r, replace(o, columns={**o.columns, "truth": 1 - o.columns["truth"]}) if o and r.candidate == "bee" else o)
        for r, o in results
    ]


REFUSED: list[tuple[Results, str]] = [
    (changed(CLEAR, is_bee, settings=settings(data="d1")), r"the data .*ant has d0, bee has d1"),  # other data
    (changed(CLEAR, is_bee, settings=settings(split="s1")), r"the split .*bee has s1"),  # another split
    (
        changed(CLEAR, is_bee, settings=settings(precision="bf16")),
        r"precision .*ant has fp32, bee has bf16",
    ),  # precision
    (
        changed(CLEAR, lambda r: r.id == "bee-s2r0f0", settings=settings(size=64)),
        r"size .*bee has \[32, 64\]",
    ),  # one run
    (
        changed(CLEAR, lambda r: r.id == "bee-s2r0f0", spec={"model": {}}),
        r"bee: its runs were trained in different ways",
    ),
    (other_images(CLEAR), r"different test images: bee.* 399 images, ant on 400; 1 are not in both \(0399.png\)"),
    (other_labels(CLEAR), r"different labels: bee.* disagree on the truth of 400 images"),  # other labels
    ([e for e in CLEAR if e[0].id != "bee-s4r0f0"], r"different seeds: ant has 1, 2, 3, 4, bee has 1, 2, 3; run the"),
    (changed(CLEAR, lambda r: r.seed == 3, state="running"), r"ant-s3r0f0 is not finished .*run the study again"),
    ([], r"no runs were given"),  # nothing
]


@pytest.mark.parametrize(("results", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_is_not_comparable_is_refused_by_name(results: Results, message: str) -> None:
    with pytest.raises(Refused, match=message):
        compare(TASK, Question(), results)


def test_wrong_names_and_missing_folds() -> None:
    with pytest.raises(UsageError, match=r"'acuracy' \(did you mean accuracy\?\)"):
        compare(TASK, Question(metric="acuracy"), CLEAR)
    with pytest.raises(UsageError, match=r"'be' is no candidate \(did you mean bee\?\)"):
        compare(TASK, Question(baseline="be"), CLEAR)
    with pytest.raises(Refused, match="Undefined is undefined"):
        compare(TASK, Question(metric="undefined"), CLEAR)
    crossed = Plan({"ant": 4.0, "bee": 1.0}, folds=5, repeats=2).results()
    with pytest.raises(Refused, match="bee: 1 repeat x fold missing; run the study again"):
        compare(TASK, Question(folds=5, repeats=2), crossed[:-1])


def test_the_ledger_lists_what_was_equal_and_what_was_declared() -> None:
    spec = {
        "bee": {
            "model": {"arch": "bee", "weights": "pretrained", "size": 64},
            "recipe": {"epochs": 3, "checkpoint": "best"},
        }
    }
    results = changed(Plan({"ant": 4.0, "bee": 1.0}, spec=spec).results(), is_bee, settings=settings(size=64))
    ledger = {control.name: control for control in compare(TASK, Question(), results).controls}
    assert ledger["data"].status == "equal"
    assert (ledger["size"].status, ledger["size"].values) == ("declared", {"ant": 32, "bee": 64})
    assert ledger["size"].note == "follows from model.size"
    assert ledger["recipe.epochs"].status == "equal"
    assert ledger["model.arch"].values == {"ant": "ant", "bee": "bee"}
    assert "picks the checkpoint" in ledger["recipe.checkpoint"].note
    assert ledger["start"].values == {"ant": "from scratch", "bee": "pretrained (ImageNet)"}
    assert "bee learned from other data before, ant did not" in ledger["start"].note
    assert ledger["parameters"].status == "equal"


def test_a_setting_may_vary_between_seeds_if_it_varies_alike() -> None:
    results = changed(CLEAR, lambda run: run.seed == 2, settings=settings(precision="bf16"))
    ledger = {control.name: control for control in compare(TASK, Question(), results).controls}
    assert ledger["precision"].status == "equal"
    assert ledger["precision"].values["ant"] == ["fp32", "bf16"]


def test_self_checks_pass_and_say_so() -> None:
    run, outcomes = CLEAR[0]
    found = compare(TASK, Question(), [*CLEAR, (replace(run, id="again"), outcomes)])
    assert {f.code for f in found.findings} >= {"aa", "swap", "split", "tuning", "repeated-run", "seed-effect"}
    assert all(f.severity == "info" for f in found.findings)
    assert "bit for bit" in finding(found, "repeated-run")
    assert "not applicable because" in finding(found, "tuning")
    assert "not applicable because" in finding(compare(TASK, Question(), CLEAR), "repeated-run")
    assert found.pairs == compare(TASK, Question(), CLEAR).pairs  # the repetition is no extra evidence


def test_self_checks_fail_where_they_should() -> None:
    (run, _), (_, other) = CLEAR[0], CLEAR[1]
    repeated = compare(TASK, Question(), [*CLEAR, (replace(run, id="again"), other)])
    assert finding(repeated, "repeated-run").startswith("warning: ant, seed 1: made twice, outcomes differ")
    stuck = compare(TASK, Question(), changed(CLEAR, is_bee, facts={"weights_hash": "same"}))
    assert finding(stuck, "seed-effect").startswith("error: The seed has no effect on bee")
    torn = Plan({"ant": 4.0, "bee": 1.0}, seeds=6, seed_sd=0.0).results()
    collapsed = [(r, o if r.seed % 2 else worse(o)) if r.candidate == "ant" else (r, o) for r, o in torn]
    assert finding(compare(TASK, Question(), collapsed), "aa").startswith(
        "warning: A/A failed: two halves of the runs of ant"
    )


def worse(outcomes: Outcomes | None) -> Outcomes | None:
    """Turn the scores of every third image around."""
    if outcomes is None:
        return None
    turned = outcomes.columns["scores"].copy()
    turned[::3] = turned[::3, ::-1]
    return replace(outcomes, columns={**outcomes.columns, "scores": turned})


def test_the_verdict_is_also_given_without_suspect_images() -> None:
    few = Question(suspects={"leaking images": ["0003.png", "0005.png", "not a test image"], "flagged labels": []})
    found = compare(TASK, few, CLEAR)
    assert finding(found, "without-leaking-images").startswith(
        "info: Without 2 test images (leaking images) the verdict is"
    )
    assert "n = 398 images" in finding(found, "without-leaking-images")
    assert "No test image is among" in finding(found, "without-flagged-labels")
    ant, bee = (np.array([hits(o) for r, o in CLEAR if r.candidate == n and o]).mean(axis=0) for n in ("ant", "bee"))
    decisive = [f"{i:04d}.png" for i in np.flatnonzero(ant > bee)]
    changed_by = compare(TASK, Question(suspects={"near-duplicates": decisive}), CLEAR)
    assert finding(changed_by, "without-near-duplicates").startswith("warning: Without")
    assert "the verdict changes" in finding(changed_by, "without-near-duplicates")
    nearly_all = compare(TASK, Question(suspects={"near-duplicates": [f"{i:04d}.png" for i in range(390)]}), CLEAR)
    assert "not applicable because too few test images would be left" in finding(nearly_all, "without-near-duplicates")
