"""Equal tuning through the front door: what is tried, what is chosen, what is never looked at, what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bakeoff import contest, tables, verbs
from bakeoff.compare import Comparison
from bakeoff.errors import Refused, RunError, UsageError
from bakeoff.evaluate.tuned import Choice, Trial, Tuned, best_of, controls
from bakeoff.files import read_json
from bakeoff.models.spec import ModelSpec
from bakeoff.store import Run, StudyFolder
from bakeoff.study import Candidate, make_study, read_study, to_toml
from bakeoff.train.budget import shortened
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.space import Range, Tune, edge_of, value_at
from bakeoff.tuning import draw, settings_at, unit_points

Run_ = Callable[..., Comparison]
WIDE = {"arch": "small:mlp", "options": {"hidden": 64}}
NARROW = {"arch": "small:mlp", "options": {"hidden": 8}}


@pytest.fixture(scope="module")
def digits(some_digits: Callable[..., Path]) -> Path:
    """Return 400 digits of 16 pixels in class folders."""
    return some_digits(9, (0, 4))


@pytest.fixture
def run(digits: Path, tmp_path: Path, inline: None) -> Run_:
    """Return a function that runs a tuned study of two perceptrons, with settings laid over it."""

    def start(settings: dict[str, Any] | None = None, folder: str = "study", **more: Any) -> Comparison:
        quick = {
            "size": 16,
            "seeds": 3,
            "repeat_one": False,
            "recipe.epochs": 2,
            "recipe.augment": "none",
            "recipe.stages": [{"rate": 1e-4}],
            "tune.trials": 3,
            "candidates": [{"name": "wide", "model": WIDE}, {"name": "narrow", "model": NARROW}],
        }
        return verbs.run(digits, tmp_path / folder, settings={**quick, **(settings or {})}, **more)

    return start


def trials_of(folder: Path, candidate: str = "") -> list[Run]:
    """Return the runs that are trials."""
    return [run for run in StudyFolder(folder).runs() if run.purpose == "trial" and run.candidate.startswith(candidate)]


def test_every_candidate_tries_the_same_settings_and_the_contest_has_fresh_seeds(run: Run_, tmp_path: Path) -> None:
    first: list[dict[str, Any]] = []

    def tell(id: str, fact: dict[str, Any]) -> None:
        if fact["kind"] == "started" and "trial" in id and not first:
            first.append(read_json(tmp_path / "study" / "tuning.json"))

    found = run(tell=tell)
    folder = StudyFolder(tmp_path / "study")
    assert first == [read_json(folder.tuning)]  # the space and all its points were there before the first trial
    points, trials = first[0]["points"], trials_of(folder.path)
    assert len(points) == 2
    assert len(trials) == 6
    overlays = {name: {tuple(r.chosen.items()) for r in trials if r.candidate == name} for name in ("wide", "narrow")}
    assert overlays["wide"] == overlays["narrow"]
    assert () in overlays["wide"]  # trial 0 is the recipe as declared
    for trial in trials:
        files = {path.name for path in (folder.path / "runs" / trial.id).iterdir()}
        assert {"validation.npz", "run.json"} <= files
        assert not files & {"outcomes.npz", "model.safetensors", "predictions.json.gz"}
    held = [stored for stored in folder.runs() if stored.purpose == "contest"]
    assert not {trial.seed for trial in trials} & {stored.seed for stored in held}
    wide = next(one for one in found.tuning if one.candidate == "wide")
    assert all(stored.chosen == wide.choices[0].settings for stored in held if stored.candidate == "wide")
    rates = [1e-4 * point["rate"] for point in points]
    assert {r.chosen.get("recipe.stages.0.rate") for r in trials} == {None, *(float(f"{rate:.6g}") for rate in rates)}
    assert found == contest.judge(folder.path) == run()
    assert len(trials_of(folder.path)) == 6
    assert Comparison.from_json(read_json(folder.comparison)) == found
    assert 'id="tuning"' in folder.report.read_text(encoding="utf-8")
    assert "tuned (validation)" in tables.comparison_text(found)


def test_the_best_on_validation_is_chosen_and_its_gain_shown_on_the_test_images(run: Run_, tmp_path: Path) -> None:
    slow = {"stages": [{"rate": 1e-6}]}
    listed = [
        {"name": "tuned", "model": WIDE, "recipe": slow},
        {"name": "plain", "model": WIDE, "recipe": slow, "tune": False},
    ]
    found = run({"candidates": listed, "tune.space": {"rate": {"low": 100.0, "high": 2000.0, "log": True}}})
    tuned, plain = found.tuning
    (choice,) = tuned.choices
    values = [trial.value for trial in choice.trials]
    assert choice.best == int(np.argmax(np.array(values, float)))
    assert choice.best > 0
    assert (plain.asked, plain.choices) == (0, ())
    assert [pair.kind for pair in found.pairs] == ["better"]
    said = next(finding for finding in found.findings if finding.code == "tuning")
    assert "On the test images: tuned is better than plain" in said.sentence
    trials = next(control for control in found.controls if control.name == "tuning.trials")
    assert (trials.status, trials.values) == ("declared", {"tuned": 3, "plain": 0})


def test_a_study_cut_among_its_trials_goes_on_to_the_same_choice(run: Run_, tmp_path: Path) -> None:
    whole = run(folder="whole")

    def cut(_id: str, fact: dict[str, Any]) -> None:
        ended.extend([1] * (fact["kind"] == "finished"))
        if len(ended) == 3:
            raise KeyboardInterrupt

    ended: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(tell=cut)
    assert not (tmp_path / "study" / "plan.json").exists()
    resumed = run()
    scores = [[[t.value for t in c.trials] for one in found.tuning for c in one.choices] for found in (whole, resumed)]
    assert scores[0] == scores[1]
    assert [one.choices[0].settings for one in resumed.tuning] == [one.choices[0].settings for one in whole.tuning]
    assert resumed.pairs == whole.pairs


def test_trials_that_diverge_are_counted_and_never_chosen(run: Run_) -> None:
    wild = {"rate": {"low": 1e28, "high": 1e30, "log": True}}
    found = run({"recipe.optimiser": "sgd", "tune.space": wild})
    for one in found.tuning:
        assert (one.used, one.failed) == (3, 2)
        assert (one.choices[0].best, one.choices[0].settings) == (0, {})
        assert all(trial.seconds > 0 for trial in one.choices[0].trials)
    assert sum(finding.code == "tuning-failed" for finding in found.findings) == 2
    assert not any(row.failures for row in found.rows)


def test_the_space_cannot_change_after_the_first_trial_and_more_trials_go_on(run: Run_, tmp_path: Path) -> None:
    run()
    before = {trial.id for trial in trials_of(tmp_path / "study")}
    with pytest.raises(UsageError, match="written down before the first trial"):
        run({"tune.space": {"rate": [0.5, 2]}})
    found = run({"tune.trials": 5})
    after = {trial.id for trial in trials_of(tmp_path / "study")}
    assert before < after
    assert [one.used for one in found.tuning] == [5, 5]


def test_cross_validation_tunes_in_every_part_on_its_own_validation_images(run: Run_, tmp_path: Path) -> None:
    crossed = {"split.folds": 3, "split.repeats": 2, "recipe.epochs": 1, "tune.trials": 2}
    found = run(crossed)
    assert found.level == "L2"
    assert [len(one.choices) for one in found.tuning] == [6, 6]
    held = {(r.candidate, r.repeat, r.fold): r.chosen for r in StudyFolder(tmp_path / "study").planned()}
    for one in found.tuning:
        assert all(held[one.candidate, c.repeat, c.fold] == c.settings for c in one.choices)
    codes = {finding.code for finding in found.findings}
    assert "tuning-validation" in codes  # 40 images are too few to choose by
    assert "tuning-not-nested" not in codes
    once = run({**crossed, "tune.nested": False})
    assert [len(one.choices) for one in once.tuning] == [1, 1]
    assert "tuning-not-nested" in {finding.code for finding in once.findings}
    assert len(trials_of(tmp_path / "study")) == 24  # those of the first part are there already


def test_an_equal_cap_of_seconds_stops_trials(run: Run_, tmp_path: Path) -> None:
    found = run({"tune.seconds": 1e-6, "tune.epochs": 0.5})
    assert [one.used for one in found.tuning] == [1, 1]
    (wide,) = trials_of(tmp_path / "study", "wide")
    assert wide.chosen == {"recipe.epochs": 1}
    assert wide.facts["epochs_done"] == 1
    assert {row.facts["epochs_done"] for row in found.rows} == {2}
    run({"tune.epochs": 0.5}, folder="whole")
    capped = run({"tune.seconds": 1e-6, "tune.epochs": 0.5}, folder="whole")
    assert [one.used for one in capped.tuning] == [1, 1]  # trials made before there was a cap do not count beyond it


def test_an_answer_to_another_question_is_not_given_while_a_changed_study_tunes(run: Run_, tmp_path: Path) -> None:
    run()

    def cut(_id: str, fact: dict[str, Any]) -> None:
        if fact["kind"] == "finished":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"recipe.stages": [{"rate": 1e-3}]}, tell=cut)
    with pytest.raises(RunError, match="has not begun"):
        contest.judge(tmp_path / "study")


def test_a_factor_on_the_rates_is_one_on_the_heads_own_too() -> None:
    stages = (Stage(layers="head", rate=0.5, epochs=1), Stage(rate=0.1, head_rate=0.2))
    candidate = Candidate(name="a", model=ModelSpec(arch="small:mlp"), recipe=Recipe(stages=stages))
    rates = {"stages.0.rate": 1.0, "stages.1.rate": 0.2, "stages.1.head_rate": 0.4}
    assert settings_at(candidate, {"rate": 2.0}) == {f"recipe.{name}": rate for name, rate in rates.items()}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tune.space": {"recipe.weight_dekay": [0.1]}}, "did you mean weight_decay"),  # a typo
    ({"tune.space": {"recipe.epochs": [1, 2]}}, "held equal"),  # would buy more training
    ({"tune.space": {"learning_rate": [1, 2]}}, "cannot be searched"),  # no path of a candidate
    ({"tune.space": {"rate": {"low": 2, "high": 1}}}, "must be below high"),  # turned round
    ({"tune.space": {"rate": {"low": 0, "high": 1, "log": True}}}, "above 0"),  # no logarithm
    ({"tune.space": {"rate": [1, 2], "recipe.stages.0.rate": [1]}}, "both"),  # twice the same
    ({"tune.space": {"recipe.stages.1.rate": [1e-3]}}, r"wide: recipe\.stages\.1\.rate: expected a place"),  # no stage
    ({"tune.space": {"recipe.label_smoothing": {"low": 0.0, "high": 2.0}}}, "label_smoothing"),  # out of its bounds
    ({"tune.space": {"recipe.batch": [8, 4000]}}, r"recipe\.batch = 4000 is more than"),  # found before it trains
    ({"split.val": 0}, "tuning chooses by validation images"),  # nothing to choose by
    (
        {"tune.space": {"model.options.width": [8, 16]}},
        "tune.space, wide: .*has no option 'width'",
    ),  # misfit
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_a_wrong_space_stops_before_training(run: Run_, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(settings)
    assert not (tmp_path / "study" / "runs").exists()


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UsageError, match=r"bakeoff\[tune\]"):
        unit_points(2, 3, 0)


def test_points_are_quasi_random_and_a_longer_sequence_begins_with_the_shorter() -> None:
    long = unit_points(2, 31, 7)
    assert long[:7] == unit_points(2, 7, 7)
    assert long != unit_points(2, 31, 8)
    cells = Counter((int(4 * a), int(4 * b)) for a, b in long)
    assert len(cells) == 16  # 31 points reach all 16 cells, which random ones seldom do
    assert max(cells.values()) == 2


def test_a_small_space_is_searched_whole_and_no_setting_twice() -> None:
    found = draw(Tune(trials=9, space={"recipe.augment": ("none", "flip"), "recipe.batch": Range(low=8, high=9)}), 3)
    assert len(found) == 4
    assert {tuple(point.values()) for point in found} == {(a, b) for a in ("none", "flip") for b in (8, 9)}


VALUES: list[tuple[Any, float, Any, str | None]] = [
    (Range(low=0.1, high=10.0, log=True), 0.5, 1.0, None),  # the middle of the logarithms
    (Range(low=0.0, high=2.0), 0.96, 1.92, "high"),  # within 5 % of an end
    (Range(low=1e-4, high=0.3, log=True), 0.04, 0.000137745, "low"),  # by the logarithm
    (Range(low=8, high=10), 0.99, 10, "high"),  # whole numbers: the end itself
    (Range(low=8, high=10), 0.5, 9, None),  # and not its neighbour
    (("a", "b", "c"), 0.99, "c", None),  # choices have no order
]


@pytest.mark.parametrize(("dimension", "at", "value", "edge"), VALUES)
def test_places_in_the_space(dimension: Any, at: float, value: Any, edge: str | None) -> None:
    assert value_at(dimension, at) == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
    assert edge_of(dimension, value) == edge


STAGES: list[tuple[int, list[int | None], float, list[int]]] = [
    (20, [None], 0.25, [5]),  # one stage
    (20, [4, None], 0.5, [2, 8]),  # head first
    (20, [1, 1, None], 0.1, [1, 1, 1]),  # never less than an epoch each
    (9, [3, 3, 3], 0.5, [1, 1, 2]),  # all of them fixed
]


@pytest.mark.parametrize(("epochs", "given", "share", "expected"), STAGES)
def test_a_shorter_budget_keeps_every_stage(
    epochs: int, given: list[int | None], share: float, expected: list[int]
) -> None:
    recipe = Recipe(epochs=epochs, stages=tuple(Stage(epochs=n) for n in given))
    settings = shortened(recipe, share)
    assert settings["recipe.epochs"] == sum(expected)
    fixed = [settings.get(f"recipe.stages.{place}.epochs") for place in range(len(given))]
    assert sorted(n for n in fixed if n) == sorted(e for n, e in zip(given, expected, strict=True) if n)
    assert shortened(recipe, 1.0) == {}


def tuned(name: str, values: list[float | None], capped: bool = False) -> Tuned:
    """Return a candidate whose trials gave these values."""
    trials = tuple(Trial(k, {"rate": 1.0 + k}, value, 2.0) for k, value in enumerate(values))
    return Tuned(name, len(values), (Choice(0, 0, 200, trials, best_of(trials, True), {}),), capped)


def test_unequal_trials_are_refused_unless_seconds_were_capped() -> None:
    chosen: dict[str, list[tuple[tuple[int, int], dict[str, Any]]]] = {"a": [((0, 0), {})], "b": [((0, 0), {})]}
    for capped, status in ((False, "undeclared"), (True, "declared")):
        found = controls([tuned("a", [0.5, 0.7], capped), tuned("b", [0.5], capped)], chosen)
        assert (found[0].name, found[0].status) == ("tuning.trials", status)
    with pytest.raises(Refused, match="a: its runs were trained with different tuned settings"):
        controls([tuned("a", [0.5])], {"a": [((0, 0), {"recipe.batch": 8}), ((0, 0), {})]})


BEST: list[tuple[list[float | None], bool, int | None]] = [
    ([0.5, 0.7, 0.6], True, 1),  # higher is better
    ([0.5, 0.7, 0.4], False, 2),  # lower is better
    ([0.5, 0.5], True, 0),  # equal: the default stays
    ([None, 0.1], True, 1),  # a failed default
    ([None, None], True, None),  # nothing to choose
]


@pytest.mark.parametrize(("values", "higher", "expected"), BEST)
def test_the_best_trial(values: list[float | None], higher: bool, expected: int | None) -> None:
    assert best_of(tuned("a", values).choices[0].trials, higher) == expected


def test_a_tuned_study_is_written_and_read_as_the_same(tmp_path: Path) -> None:
    content = {
        "data": {"path": str(tmp_path)},
        "tune": {"trials": 8, "seconds": 60.0, "space": {"rate": {"low": 0.1, "high": 3.0}, "recipe.batch": [8, 16]}},
        "candidates": [{"name": "a", "model": "small:cnn"}, {"name": "b", "model": "small:cnn", "tune": False}],
    }
    study = make_study(content)
    (tmp_path / "study.toml").write_text(to_toml(study))
    assert read_study(tmp_path / "study.toml") == study
