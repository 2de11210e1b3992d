"""compare(): what is claimed, what is refused, what the ledger and the self-checks say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from bakeoff.compare import Comparison, Question, compare, from_json, to_json
from bakeoff.errors import Refused, UsageError
from bakeoff.evaluate.statistics import crossed_t
from bakeoff.seeds import generator
from bakeoff.store import Run
from bakeoff.tasks.task import Metric, Outcomes, Task

Results = list[tuple[Run, Outcomes | None]]
CLASSES = ("cat", "dog")


def hits(outcomes: Outcomes) -> NDArray[np.float64]:
    return np.asarray(outcomes.columns["scores"].argmax(axis=1) == outcomes.columns["truth"], np.float64)


def error(outcomes: Outcomes) -> NDArray[np.float64]:
    own = outcomes.columns["scores"][np.arange(len(outcomes)), outcomes.columns["truth"]]
    return np.asarray(-np.log(own), np.float64)


def balanced(outcomes: Outcomes) -> float:
    truth = outcomes.columns["truth"]
    return float(np.mean([hits(outcomes)[truth == k].mean() for k in (0, 1)]))


class Faked:
    """A two-class task with a headline, a metric of the whole set, and one that is better when lower."""

    name = "classification"
    headline = "accuracy"
    table = {  # noqa: RUF012
        "accuracy": Metric("Accuracy", lambda o: float(hits(o).mean()), hits),
        "balanced": Metric("Balanced accuracy", balanced),
        "log_loss": Metric("Log-loss", lambda o: float(error(o).mean()), error, False, percent=False),
        "undefined": Metric("Undefined", lambda _: float("nan")),
    }


TASK = cast(Task, Faked())


@dataclass
class Plan:
    """Simulated runs: `skill` by candidate (logits), on `images` images, with seeds or repeats x folds."""

    skill: dict[str, float]
    images: int = 400
    seeds: int = 4
    folds: int = 1
    repeats: int = 1
    seed_sd: float = 0.1
    spec: dict[str, dict[str, Any]] = field(default_factory=dict)

    def results(self) -> Results:
        """Draw the runs."""
        found: Results = []
        for name, skill in self.skill.items():
            spec: dict[str, Any] = {"name": name, "model": {"arch": name, "weights": "none"}, "recipe": {"epochs": 3}}
            spec |= self.spec.get(name, {})
            for seed, repeat, fold in self.places():
                facts = {"parameters": 1000, "seconds": 1.5 * seed, "weights_hash": f"{name}-{seed}-{repeat}-{fold}"}
                facts |= {"pretraining": "ImageNet" if spec["model"]["weights"] == "pretrained" else "none"}
                settings = {"data": "d0", "split": "s0", "size": 32, "precision": "fp32"}
                run = Run(f"{name}-s{seed}r{repeat}f{fold}", name, seed, repeat, fold, "done", spec, settings, facts)
                found.append((run, self.outcomes(name, skill, (seed, repeat, fold))))
        return found

    def places(self) -> list[tuple[int, int, int]]:
        """Return (seed, repeat, fold) of every run."""
        if self.folds > 1:
            return [(9, repeat, fold) for repeat in range(self.repeats) for fold in range(self.folds)]
        return [(seed, 0, 0) for seed in range(1, self.seeds + 1)]

    def outcomes(self, name: str, skill: float, place: tuple[int, int, int]) -> Outcomes:
        """Draw the outcomes of one run."""
        truth = np.arange(self.images) % 2
        hard = generator(0, "hard").normal(0, 2, self.images) + generator(0, "part", name).normal(0, 1, self.images)
        draws = generator(1, name, *place)
        margin = skill + hard + draws.normal(0, self.seed_sd) + draws.normal(0, 1, self.images)
        right = 1 / (1 + np.exp(-margin))
        scores = np.stack([np.where(truth == k, right, 1 - right) for k in (0, 1)], axis=1)
        fold_of = generator(2, place[1]).permutation(self.images) % self.folds
        here = np.flatnonzero(fold_of == place[2])
        ids = tuple(f"{i:04d}.png" for i in here)
        return Outcomes(ids, CLASSES, {"truth": truth[here], "scores": scores[here]})


def changed(results: Results, where: Callable[[Run], bool], **fields: Any) -> Results:
    """Replace fields of some runs."""
    return [(replace(run, **fields) if where(run) else run, outcomes) for run, outcomes in results]


def finding(comparison: Comparison, code: str) -> str:
    """Return '<severity>: <sentence>' of the finding with a code."""
    (found,) = [f for f in comparison.findings if f.code == code]
    return f"{found.severity}: {found.sentence}"


def failing(results: Results, where: Callable[[Run], bool]) -> Results:
    """Let some runs fail."""
    return [
        (replace(run, state="failed", error="the loss became nan at step 12"), None) if where(run) else (run, outcomes)
        for run, outcomes in results
    ]


CLEAR = Plan({"ant": 4.0, "bee": 1.0}).results()
EQUAL = Plan({"ant": 2.0, "bee": 2.0}).results()
THREE = Plan({"ant": 4.0, "bee": 3.9, "cow": 1.0}).results()


def test_a_clear_difference_is_the_crossed_t() -> None:
    found = compare(TASK, Question(), CLEAR)
    ant, bee = (np.array([hits(o) for r, o in CLEAR if r.candidate == name and o]) for name in ("ant", "bee"))
    oracle = crossed_t(ant, bee)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.kind) == ("ant", "bee", "better")
    assert (pair.difference, pair.low, pair.high, pair.p) == pytest.approx(
        (oracle.difference, oracle.low, oracle.high, oracle.p)
    )
    gap = (
        f"{100 * oracle.difference:.1f} points [{100 * oracle.low:.1f}, {100 * oracle.high:.1f}], by more than 1 point"
    )
    assert found.verdict == (
        f"ant is better than bee by {gap}. L1 (these recipes on this training set): S = 4 seeds, n = 400 images, "
        "G = 400 groups."
    )
    assert pair.chance is not None
    assert pair.chance.value is not None
    assert pair.chance.value > 0.75
    assert pair.sentence.endswith("reliably better")
    assert (found.level, found.seeds, found.images, found.groups, found.best_set) == ("L1", 4, 400, 400, ("ant",))
    assert found.next_step == "Nothing more is needed: take ant."


def test_no_evidence_names_the_findable_gap_and_the_next_step() -> None:
    found = compare(TASK, Question(eps=5), EQUAL)
    (pair,) = found.pairs
    assert pair.kind == "undecided"
    assert pair.detectable is not None
    assert f"would have found a gap of {100 * pair.detectable:.1f} points or more with 80 % power" in found.verdict
    assert found.best_set == tuple(row.candidate for row in found.rows)
    assert "instead of" in found.next_step
    assert "of the variance" in found.next_step


@pytest.mark.parametrize(
    ("results", "question", "kind", "words"),
    [
        (EQUAL, Question(eps=15), "equivalent", "are equivalent within 15 points"),  # a wide eps
        (CLEAR, Question(eps=60), "better", "but by less than 60 points"),  # better, yet not enough to matter
        (CLEAR, Question(metric="log_loss", eps=0.1), "better", "by more than 0.1"),  # lower is better, own unit
        (CLEAR, Question(metric="balanced"), "better", "by more than 1 point"),  # a metric of the whole set
        (CLEAR, Question(baseline="ant"), "worse", "ant is better than bee"),  # the baseline is the better one
        (CLEAR, Question(baseline="bee"), "better", "ant is better than bee"),  # the baseline is the worse one
    ],
)
def test_kinds_of_verdict(results: Results, question: Question, kind: str, words: str) -> None:
    found = compare(TASK, question, results)
    assert found.pairs[0].kind == kind
    assert words in found.verdict


def test_estimates_of_all_metrics_and_the_candidate_that_leads() -> None:
    found = compare(TASK, Question(), CLEAR)
    ant = found.rows[0]
    assert (ant.candidate, ant.runs) == ("ant", 4)
    runs = [o for r, o in CLEAR if r.candidate == "ant" and o]
    assert ant.metrics["balanced"].value == pytest.approx(np.mean([balanced(o) for o in runs]))
    assert ant.metrics["log_loss"].value == pytest.approx(np.mean([error(o).mean() for o in runs]))
    assert ant.seed_sd == pytest.approx(np.std([hits(o).mean() for o in runs], ddof=1))
    assert ant.facts == {
        "parameters": 1000,
        "seconds": 3.75,
        "pretraining": "none",
    }  # medians; hashes of single runs are no fact
    assert ant.metrics["undefined"].value is None
    for name in ("accuracy", "balanced", "log_loss"):
        estimate = ant.metrics[name]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert estimate.low < estimate.value < estimate.high


def test_three_candidates_get_simultaneous_intervals_and_a_best_set() -> None:
    found = compare(TASK, Question(), THREE)
    assert len(found.pairs) == 3
    assert set(found.best_set) == {"ant", "bee"}
    assert found.best_set[0] == found.rows[0].candidate
    assert all(pair.p_holm >= pair.p for pair in found.pairs)
    lone = compare(TASK, Question(), [entry for entry in THREE if entry[0].candidate != "bee"])
    wide = next(pair for pair in found.pairs if {pair.a, pair.b} == {"ant", "cow"})
    assert wide.high - wide.low > lone.pairs[0].high - lone.pairs[0].low  # Bonferroni
    assert len(compare(TASK, Question(baseline="cow"), THREE).pairs) == 2
    assert "the others were not compared with each other" in compare(TASK, Question(baseline="cow"), THREE).next_step


def test_groups_widen_the_interval() -> None:
    groups = {f"{i:04d}.png": f"patient {i // 8}" for i in range(392)}  # the last 8 images are on their own
    grouped, plain = compare(TASK, Question(groups=groups), CLEAR), compare(TASK, Question(), CLEAR)
    assert grouped.groups == 49 + 8
    assert grouped.pairs[0].difference == plain.pairs[0].difference
    assert grouped.pairs[0].se != plain.pairs[0].se


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_never_say_better(seeds: int) -> None:
    found = compare(TASK, Question(), Plan({"ant": 4.0, "bee": 1.0}, seeds=seeds).results())
    (pair,) = found.pairs
    assert (found.level, pair.kind, pair.chance) == ("L0", "undecided", None)
    assert pair.low > 0  # and yet
    assert "better" not in found.verdict
    assert "may not survive retraining" in found.verdict
    assert "3 seeds" in found.next_step


@pytest.mark.parametrize(("images", "per_group"), [(15, 1), (72, 8)])  # n < 20; G < 10
def test_a_small_test_set_carries_no_claim(images: int, per_group: int) -> None:
    groups = {f"{i:04d}.png": str(i // per_group) for i in range(images)}
    found = compare(TASK, Question(groups=groups), Plan({"ant": 4.0, "bee": 1.0}, images=images).results())
    assert found.level == "L0"
    assert "better" not in found.verdict
    assert finding(found, "small-test").startswith("warning")
    assert found.next_step.startswith("Test on more images")


def test_identical_predictions_are_called_identical() -> None:
    source = {run.seed: outcomes for run, outcomes in EQUAL if run.candidate == "ant"}
    found = compare(TASK, Question(), [(run, source[run.seed]) for run, _ in EQUAL])
    (pair,) = found.pairs
    assert (pair.kind, pair.difference, pair.p) == ("identical", 0, 1)
    assert "identical" in found.verdict
    json.dumps(found.to_json(), allow_nan=False)


def test_one_candidate_has_nothing_to_compare_with() -> None:
    found = compare(TASK, Question(), [entry for entry in CLEAR if entry[0].candidate == "ant"])
    assert found.pairs == ()
    assert "nothing to compare" in found.verdict


def test_cross_validation_speaks_about_data_sets() -> None:
    plan = Plan({"ant": 4.0, "bee": 1.0, "cow": 1.1}, images=200, folds=5, repeats=3)
    results = plan.results()
    found = compare(TASK, Question(folds=5, repeats=3), results[::-1])  # the order of the runs does not matter
    assert (found.level, found.seeds, found.images, found.rows[0].runs) == ("L2", 3, 200, 15)
    assert found.pairs[0].kind == "better"
    assert "L2 (these recipes on data sets like this one): S = 3 repeats, n = 200 images" in found.verdict
    whole = [
        np.concatenate([hits(o) for r, o in results if o and (r.candidate, r.repeat) == ("ant", i)]) for i in range(3)
    ]
    assert found.rows[0].metrics["accuracy"].value == pytest.approx(np.mean(whole))
    once = compare(TASK, Question(folds=5), replace(plan, repeats=1).results())
    assert once.level == "L0"  # one repeat says nothing about the luck of training
    lost = compare(TASK, Question(folds=5, repeats=3), failing(results, lambda r: r.id == "ant-s9r1f2"))
    assert lost.rows[0].failures == ("repeat 1, fold 2: the loss became nan at step 12",)
    assert lost.pairs[0].kind == "better"  # two repeats remain, paired with the other candidate's same two


def test_failed_runs_are_reported_and_too_few_left_claim_nothing() -> None:
    one = compare(TASK, Question(), failing(CLEAR, lambda r: r.candidate == "bee" and r.seed == 2))
    assert one.pairs[0].kind == "better"
    assert one.rows[1].failures == ("seed 2: the loss became nan at step 12",)
    assert one.rows[1].runs == 3
    assert finding(one, "failed-run").startswith("warning: 1 of 4 runs of bee failed")
    assert "S = 3 to 4 seeds" in one.verdict
    two = compare(TASK, Question(), failing(THREE, lambda r: r.candidate == "bee" and r.seed < 3))
    assert "nothing is claimed about bee" in two.verdict
    assert "ant is better than cow" in two.verdict
    assert two.next_step.startswith("Finish at least 3 seeds (--seeds) of bee")
    none = compare(TASK, Question(), failing(THREE, lambda r: r.candidate == "bee"))
    assert [row.candidate for row in none.rows] == ["ant", "cow", "bee"]
    assert none.rows[2].metrics["accuracy"].value is None
    with pytest.raises(Refused, match=r"no run finished.*the loss became nan"):
        compare(TASK, Question(), failing(CLEAR, lambda run: run.seed > 0))


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


def is_bee(run: Run) -> bool:
    return run.candidate == "bee"


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
    with pytest.raises(Refused, match="bee: 1 repeats x folds are missing; run the study again"):
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


@pytest.mark.parametrize(
    "results", [CLEAR, EQUAL, THREE, failing(THREE, is_bee)], ids=["clear", "equal", "3", "failed"]
)
def test_json_round_trip_is_exact(results: Results) -> None:
    odd = changed(results, lambda r: r.seed == 1, facts={"latency_ms": float("nan"), "loaded": {"head": [1, 2]}})
    found = compare(TASK, Question(suspects={"duplicates": ["0001.png"]}), odd)
    text = json.dumps(to_json(found), allow_nan=False)
    assert from_json(json.loads(text)) == found
    assert json.dumps(Comparison.from_json(json.loads(text)).to_json()) == text


def test_other_content_is_not_taken_for_a_comparison() -> None:
    content = to_json(compare(TASK, Question(), CLEAR))
    with pytest.raises(ValueError, match="schema_version is 99, expected 1"):
        from_json({**content, "schema_version": 99})
    del content["verdict"]
    with pytest.raises(ValueError, match="verdict"):
        from_json(content)


def test_names_are_escaped_in_notebooks() -> None:
    results = Plan({"<script>alert(1)</script>": 4.0, "a & b": 1.0}).results()
    page = compare(TASK, Question(), results)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page
