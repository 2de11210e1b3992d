"""Study: the question in one frozen object, read from study.toml or made in Python."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.errors import UsageError, nearest
from bakeoff.models.spec import Head, ModelSpec, split_arch
from bakeoff.settings import set_value, toml_key, toml_value
from bakeoff.train.gap import GapRule
from bakeoff.train.recipe import Recipe, Stage
from bakeoff.train.space import Range, Tune


class _Part(BaseModel):
    """A section of study.toml: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Part = TypeVar("Part", bound=_Part)
FORMS = {  # pydantic's words for these are Python's, not TOML's
    "tuple_type": "expected a list, [ … ]",
    **dict.fromkeys(("dict_type", "model_type"), "expected a table, { key = value, … }"),
}


class DataSpec(_Part):
    """Where the images are and how to read them.

    `format` None: found out.  `label_from` and `group_from` are regular expressions with a named group (label, group)
    searched in each path.  `task` None: what the format holds (an instance's boxes can also be read as detection).  For
    label maps, `masks` is the folder of the mask files or a pattern with {stem}, `classes` a table of class names, and
    `ignore` lists class names or values that are neither learned nor judged.  `skip_unreadable` goes on without images
    that cannot be decoded.  `accept_leaks` goes on with given splits that share images or groups; the verdict is then
    also printed without them.
    """

    path: str
    format: str | None = None
    label_from: str | None = None
    group_from: str | None = None
    task: TaskName | None = None
    masks: str | None = None
    classes: str | None = None
    ignore: tuple[str, ...] = ()
    skip_unreadable: bool = False
    accept_leaks: bool = False

    @field_validator("ignore", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        """Accept one value for a list of it, and numbers for their text: ignore = 11."""
        values = given if isinstance(given, list | tuple) else [given]
        return [str(value) if isinstance(value, int) else value for value in values]


class SplitSpec(_Part):
    """How the images are divided.

    `given` uses the splits that the data prescribes, if any.  `folds` above 1 asks for `repeats` x `folds`
    cross-validation (claim level L2); `val` is then the share of each training part.
    """

    given: bool = True
    val: float = Field(0.15, ge=0, lt=0.9)
    test: float = Field(0.2, gt=0, lt=0.9)
    folds: int = Field(1, ge=1)
    repeats: int = Field(1, ge=1)
    seed: int = 0


class Execution(_Part):
    """Where and how runs execute; 0 and "auto" are decided once, by measuring, and written in the ledger.

    `guards` try every network on a few made-up images before anything trains, and stop a study with a broken one.
    `diagnose` looks into some steps of every run (train/diagnosis.py); it changes no number and so no run's identity.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = Field(0, ge=0)
    threads: int = Field(0, ge=0)
    loaders: int = Field(0, ge=0)
    guards: Literal["on", "off"] = "on"
    diagnose: bool = False


class Candidate(_Part):
    """What is compared: a network and a recipe under a name.

    `tune` false keeps the recipe as it is declared where the study tunes: so a default can stand beside its tuned self.
    """

    name: str = Field(min_length=1, max_length=80)
    model: ModelSpec
    recipe: Recipe = Recipe()
    tune: bool = True

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: object) -> object:
        """Accept `model = "arch@weights"`, and take the architecture as the name where none is given."""
        if isinstance(given, str):
            given = {"model": given}
        if not isinstance(given, dict):
            return given
        model = given.get("model")
        model = {"arch": model} if isinstance(model, str) else model
        filled = {**given, "model": model}
        if "name" not in filled and isinstance(model, dict):
            filled["name"] = _called(model)
        return filled


class Study(_Part):
    """Data, split, candidates, and how sure one wants to be.

    `seeds` runs of each candidate from `first_seed` on; under cross-validation the repeats take their place.  `looks`
    replaces them by growing numbers of seeds: after each the study looks at its results, and stops when every tested
    pair is decided.  `race` drops losers on validation, after a quarter and a half of the epochs.  `eps` is
    the smallest difference that matters, in points.  `metric` None: the task's headline.  `baseline` names the
    candidate that the others are tested against (None: all pairs).  `size` is the input side in pixels, `resize` how
    an image becomes square.  `recipe` is what every candidate trains with, less what its own recipe says otherwise.
    `repeat_one` trains one run a second time, to see that it comes out the same.  `licence` "permissive" refuses
    candidates whose weights are not under a licence that allows any use.
    """

    data: DataSpec
    split: SplitSpec = SplitSpec()
    size: int = Field(128, ge=8, le=2048)
    resize: Resize = "squash"
    seeds: int = Field(5, ge=1)
    first_seed: int = Field(1, ge=0)
    looks: tuple[int, ...] = ()
    race: bool = False
    eps: float = Field(1.0, gt=0)
    metric: str | None = None
    baseline: str | None = None
    repeat_one: bool = True
    licence: Literal["any", "permissive"] = "any"
    recipe: Recipe = Recipe()
    tune: Tune = Tune()
    execution: Execution = Execution()
    candidates: tuple[Candidate, ...]

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, given: object) -> object:
        """Lay each candidate's recipe over the study's."""
        if not isinstance(given, dict):
            return given
        shared = given.get("recipe", {})
        shared = shared.model_dump(exclude_unset=True) if isinstance(shared, Recipe) else shared
        listed = given.get("candidates", ())
        if not isinstance(listed, list | tuple):
            raise ValueError("candidates must be a list: give each a section of its own, [[candidates]]")
        return {**given, "candidates": [_inherit(candidate, shared) for candidate in listed]}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        """Names must be unique and known, and there must be something to compare."""
        names = [candidate.name for candidate in self.candidates]
        if not names:
            raise ValueError("a study needs at least one candidate")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"candidates must have different names, {sorted(twice)[0]!r} appears twice")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is not a candidate{nearest(self.baseline, names)}")
        return self

    @model_validator(mode="after")
    def _staged(self) -> Study:
        """Something is tuned if asked for; looks must grow and be few; they and a race need a hold-out split."""
        looks = self.looks
        if self.tune.trials and not any(candidate.tune for candidate in self.candidates):
            raise ValueError("tune.trials asks for tuning, and every candidate says tune = false: leave one out")
        if looks and (len(looks) > 5 or looks[0] < 3 or any(a >= b for a, b in pairwise(looks))):
            raise ValueError(
                f"looks must be 1 to 5 growing numbers of seeds, the first 3 at least (fewer can claim nothing), as in "
                f"[3, 5, 10]; got {list(looks)}"
            )
        if self.split.folds > 1 and looks:
            raise ValueError(
                "looks need a hold-out split (folds = 1): under cross-validation the repeats share all their images, "
                "so they are no fresh evidence as further seeds are"
            )
        if self.split.folds > 1 and self.race:
            raise ValueError(
                "a race needs a hold-out split (folds = 1): under cross-validation the images that it would drop a "
                "candidate on are test images of other folds"
            )
        return self

    @property
    def most_seeds(self) -> int:
        """The largest number of seeds that the study may train: `seeds`, or that of its last look."""
        return self.looks[-1] if self.looks else self.seeds

    def sizes(self) -> list[int]:
        """Return the input sides that the candidates need."""
        return sorted({candidate.model.size or self.size for candidate in self.candidates})


def _inherit(candidate: Any, shared: Any) -> Any:
    """Lay one candidate's recipe (dict) over the shared one; a Candidate made in Python is complete as it is."""
    if isinstance(candidate, str):
        candidate = {"model": candidate}
    if not isinstance(candidate, dict) or not isinstance(shared, dict):
        return candidate
    own = candidate.get("recipe", {})
    own = own.model_dump(exclude_unset=True) if isinstance(own, Recipe) else own
    return {**candidate, "recipe": {**shared, **own}} if isinstance(own, dict) else candidate


def make_part(section: type[Part], content: dict[str, Any], source: str) -> Part:
    """Make one section of a study; UsageError names each wrong key."""
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(error, source)) from None


def make_study(content: dict[str, Any], source: str = "study") -> Study:
    """Make a Study from nested dictionaries; UsageError names each wrong key."""
    return make_part(Study, content, source)


def read_study(path: Path, settings: Mapping[str, Any] | None = None) -> Study:
    """Read study.toml, with settings by dotted path laid over it; relative paths are taken from the file's folder."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such study; `bakeoff init DATA` writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    content = anchor(content, path.parent)
    for key, value in (settings or {}).items():
        set_value(content, key, value)
    return make_study(content, str(path))


def anchor(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Take the relative paths of a study (data, weights files, python files) from `folder`, and name the candidates.

    A candidate without a name is called like its architecture, or arch@weights where two would be called the same.
    """
    data = content.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str((folder / data["path"]).resolve())
        if isinstance(data.get("classes"), str):
            data["classes"] = str((folder / data["classes"]).resolve())
    listed = content.get("candidates")
    if isinstance(listed, list):  # else it is refused when the study is made
        anchored = [_anchored(c, folder) if isinstance(c, dict | str) else c for c in listed]
        arches = [_arch(c) for c in anchored]
        content["candidates"] = [
            {"name": arch if arches.count(arch) < 2 else f"{arch}@{Path(str(c['model']['weights'])).name}", **c}
            if arch
            else c
            for arch, c in zip(arches, anchored, strict=True)
        ]
    return content


def _arch(candidate: Any) -> str | None:
    """Return the architecture of a candidate without a name; None where it has a name, or no model."""
    named = not isinstance(candidate, dict) or "name" in candidate or not isinstance(candidate.get("model"), dict)
    return None if named else _called(candidate["model"])


def _called(model: dict[str, Any]) -> str:
    """Return what a candidate without a name is called: its architecture; a Python file without its folders."""
    spec = split_arch(model)
    if spec.get("source") != "python":
        return str(model.get("arch", ""))
    file, colon, function = spec["arch"].rpartition(":")
    return f"{Path(file).name}{colon}{function}"


def _anchored(candidate: Any, folder: Path) -> dict[str, Any]:
    """Resolve the paths inside one candidate."""
    filled: dict[str, Any] = {"model": candidate} if isinstance(candidate, str) else dict(candidate)
    model = filled.get("model")
    model = {"arch": model} if isinstance(model, str) else model
    if isinstance(model, dict):
        spec = split_arch(model)
        if isinstance(spec["weights"], str) and ("." in spec["weights"] or "/" in spec["weights"]):  # else a name
            spec["weights"] = str((folder / spec["weights"]).resolve())
        if spec.get("source") == "python":
            file, _, function = spec["arch"].rpartition(":")
            spec["arch"] = f"{(folder / file).resolve()}:{function}" if file else function  # refused when it is built
        filled["model"] = spec
    return filled


def explain(error: ValidationError, source: str) -> str:
    """Say what pydantic found wrong: the key, what is expected, the nearest known key.

    What is wrong with the shared recipe is wrong with every candidate that inherits it; it is said once.
    """
    lines = []
    issues = error.errors(include_url=False)
    shared = {_complaint(issue) for issue in issues if issue["loc"][:1] == ("recipe",)}
    for issue in issues:
        if issue["loc"][:1] == ("candidates",) and _complaint(issue) in shared:
            continue
        key = ".".join(str(part) for part in issue["loc"] if not str(part).startswith("("))  # (…): one form of several
        if issue["type"] == "extra_forbidden":
            lines.append(f"{source}: unknown key {key}{_hint(str(issue['loc'][-1]))}")
        else:
            message = FORMS.get(issue["type"], issue["msg"].removeprefix("Value error, "))
            got = "" if issue["type"] in ("missing", "value_error") else f", got {issue['input']!r}"
            lines.append(f"{source}: {key + ': ' if key else ''}{message}{got}")
    return "\n".join(lines)


def _complaint(issue: ErrorDetails) -> tuple[Any, ...]:
    """Return what is wrong, and where inside a recipe, whoever's it is."""
    place = issue["loc"][2:] if issue["loc"][:1] == ("candidates",) else issue["loc"]
    return place, issue["msg"], "" if issue["type"] == "value_error" else repr(issue["input"])


def _hint(key: str) -> str:
    """Return where a key belongs that some section of study.toml knows, or else the nearest known key."""
    sections: dict[str, type[BaseModel]] = {
        "at the top": Study,
        "in [data]": DataSpec,
        "in [split]": SplitSpec,
        "in [tune]": Tune,
        "in [execution]": Execution,
        "in [[candidates]]": Candidate,
        "in a candidate's model": ModelSpec,
        "in a model's head": Head,
        "in [recipe] or a candidate's recipe": Recipe,
        "in a recipe's stages": Stage,
        "in a stage's until": GapRule,
        "in a range of tune.space": Range,
    }
    places = [place for place, section in sections.items() if key in section.model_fields]
    if places:
        return f" ({key} stands {' or '.join(places)})"
    return nearest(key, sorted({known for section in sections.values() for known in section.model_fields}))


def to_toml(study: Study) -> str:
    """Write a study as TOML that reads back as the same study; what is at its default is left out."""
    content = study.model_dump(mode="json", exclude_defaults=True)
    recipes = [candidate.recipe.model_dump(mode="json") for candidate in study.candidates]
    shared = study.recipe.model_dump(mode="json")
    if any(recipe[key] is None and shared[key] is not None for recipe in recipes for key in shared):
        shared = Recipe().model_dump(mode="json")  # TOML has no null to take a shared value back with
        content.pop("recipe", None)
    for candidate, recipe in zip(content["candidates"], recipes, strict=True):
        candidate["recipe"] = {key: value for key, value in recipe.items() if value != shared[key]}
    scalars = {key: value for key, value in content.items() if not isinstance(value, dict | list)}
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in scalars.items()]
    for section in ("data", "split", "recipe", "tune", "execution"):
        if content.get(section):
            lines += [
                "",
                f"[{section}]",
                *(f"{toml_key(key)} = {toml_value(value)}" for key, value in content[section].items()),
            ]
    for candidate in content["candidates"]:
        lines += [
            "",
            "[[candidates]]",
            *(f"{toml_key(key)} = {toml_value(value)}" for key, value in candidate.items() if value != {}),
        ]
    return "\n".join(lines).lstrip("\n") + "\n"
