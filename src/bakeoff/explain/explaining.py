"""A trained model x images x methods -> maps with their checks, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data.decode import decode, resize
from bakeoff.data.load import to_float
from bakeoff.errors import DataError, UnreadableImage, UsageError, nearest
from bakeoff.explain import EXPLAINERS
from bakeoff.explain.explainer import Explainer, Explanation, Options, at_rest
from bakeoff.explain.removal import Removal
from bakeoff.explain.sanity import Check, correlation, empty, twins
from bakeoff.explain.subject import Subject, find_subject
from bakeoff.findings import printable
from bakeoff.models.spec import Network
from bakeoff.models.trained import Trained
from bakeoff.tasks.inference import choose_device

ALL = "all"
SURVEY = "activations"  # looks at all images at once: bakeoff.explain.activations
DEFAULT = ("gradcam", "layercam")


@dataclass(frozen=True)
class Answer:
    """What one method says of an image, with its check where it made a map; or `refusal`: why it says nothing."""

    method: str
    title: str
    found: Explanation | None = None
    check: Check | None = None
    refusal: str = ""

    @property
    def words(self) -> str:
        """What there is to say below the map."""
        if self.found is None:
            return f"not applicable: {self.refusal}"
        told = [self.found.note]
        if self.found.map is not None:
            told.append(self.check.words if self.check else "the map is the same everywhere: it says nothing")
        return "; ".join(filter(None, told))

    def to_json(self) -> dict[str, Any]:
        """Return all but the pixels, JSON-able."""
        content: dict[str, Any] = {"method": self.method, "title": self.title, "words": self.words}
        content["applies"] = self.found is not None
        if self.found is not None:
            content |= {"layer": self.found.layer or None, "note": self.found.note, "empty": False}
        if self.found is not None and self.found.map is not None and self.check is None:
            content["empty"] = True
        if self.check is not None:
            content |= {
                **vars(self.check),
                "depends_on_weights": self.check.depends,
                "better_than_random": self.check.finds,
            }
        return content


@dataclass(frozen=True)
class Explained:
    """One image: its `pixels` (S, S, 3) as the network sees it, the subject, what every method says; or an error.

    `picture` is the file that shows it all, where one was written.
    """

    path: str
    subject: Subject | None = None
    pixels: NDArray[np.uint8] | None = None
    methods: tuple[Answer, ...] = ()
    error: str | None = None
    picture: str | None = None

    @property
    def words(self) -> str:
        """All that there is to say, in lines."""
        name = printable(self.path)
        if self.subject is None:
            return f"{name}: {self.error}"
        found = self.subject
        kind = {"classification": "", "semantic": "its pixels of "}.get(found.task, "the object ")
        first = f"{name}: {kind}{printable(found.label)}, probability {found.probability:.2f}"
        shown = [f"  picture: {printable(self.picture)}"] if self.picture else []
        return "\n".join([first, *(f"  {one.title}: {one.words}" for one in self.methods), *shown])

    def to_json(self) -> dict[str, Any]:
        """Return all but pictures, JSON-able."""
        found = self.subject
        content: dict[str, Any] = {"path": self.path, "picture": self.picture, "error": self.error}
        if found is not None:
            content |= {"task": found.task, "label": found.label, "probability": found.probability}
            content["box"] = None if found.box is None else list(found.box)
            content["share"] = None if found.region is None else float(found.region.float().mean())
        return {**content, "methods": [one.to_json() for one in self.methods]}


def find_methods(names: Sequence[str]) -> tuple[Explainer, ...]:
    """Return methods by their names, each once; "all" is every one.  UsageError names the nearest for a wrong one."""
    known = {explainer.NAME: explainer for explainer in EXPLAINERS}
    for name in names:
        if name == SURVEY:
            raise UsageError(
                f"{SURVEY} looks at all images that are named; there are none here: name a model and images"
            )
        if name not in (*known, ALL):
            there = (*known, SURVEY, ALL)
            raise UsageError(f"there is no method {name!r}{nearest(name, there)}; there are {', '.join(there)}")
    chosen = known if ALL in names else dict.fromkeys(names)
    return tuple(known[name] for name in chosen)


@dataclass
class Explaining:
    """A model that explains its statements, with the random networks that its maps are compared with."""

    model: Trained
    methods: tuple[Explainer, ...]
    options: Options = field(default_factory=Options)
    _twins: list[Network] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bring the network to the device.  Raises UsageError or ResourceError for one that is not there."""
        self.model.network.to(choose_device(self.options.device))

    def files(self, paths: Iterable[Path], wanted: str | None = None) -> Iterator[Explained]:
        """Yield an entry for every image file; of one that cannot be read, or has nothing of the class, the error.

        `wanted` is the class to explain (None: what the model is surest of).  Raises UsageError for a class that there
        is not, for a layer that there is not, and where none of the methods applies to the model.
        """
        for path in paths:
            try:
                pixels = resize(decode(path), self.model.size, self.model.resize)
                found = self.image(str(path), pixels, wanted)
                if all(one.refusal for one in found.methods):
                    told = "; ".join(f"{one.method}: {one.refusal}" for one in found.methods)
                    raise UsageError(f"no method that was named can explain this model: {told}; name others, or {ALL}")
                yield found
            except UnreadableImage as error:
                yield Explained(str(path), error=error.reason)
            except DataError as error:
                yield Explained(str(path), error=str(error))

    def image(self, name: str, pixels: NDArray[np.uint8], wanted: str | None = None) -> Explained:
        """Explain what the model says of an image (S, S, 3) uint8; DataError where it finds nothing of the class."""
        network, model = self.model.network, self.model
        image = to_float(pixels[None].copy()).to(network.mean.device)
        with at_rest(network):
            subject = find_subject(network, model.task, model.classes, image, wanted)
            if not self._twins:
                self._twins += twins(model)
            removal = Removal(network, subject, image, self.options.batch)
            found: list[Answer] = []
            baseline: tuple[float, float] | None = None
            for explainer in self.methods:
                one = self._explained(explainer, image, subject)
                if one.found is not None and one.found.map is not None and not empty(one.found.map):
                    baseline = baseline or removal.random(self.options.seed)
                    one = self._checked(explainer, one, removal, baseline)
                found.append(one)
        return Explained(name, subject, pixels, tuple(found))

    def _explained(self, explainer: Explainer, image: Tensor, subject: Subject) -> Answer:
        """Ask one method."""
        network = self.model.network
        if why := explainer.applies(network, self.model.task, image):
            return Answer(explainer.NAME, explainer.TITLE, refusal=why)
        return Answer(explainer.NAME, explainer.TITLE, explainer.explain(network, image, subject, self.options))

    def _checked(self, explainer: Explainer, one: Answer, removal: Removal, baseline: tuple[float, float]) -> Answer:
        """Measure a map."""
        assert one.found is not None
        assert one.found.map is not None
        same = replace(self.options, layer=one.found.layer or self.options.layer)
        others = [explainer.explain(twin, removal.image, removal.subject, same).map for twin in self._twins]
        related = correlation(one.found.map, [other for other in others if other is not None])
        deletion, insertion = removal.areas(one.found.map)
        check = Check(related, deletion, baseline[0], insertion, baseline[1])
        return Answer(one.method, one.title, one.found, check)
