"""A request for a network's answer: it takes a place, brings a picture, and waits for the one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from bakeoff.data.decode import decode
from bakeoff.serve.answers import Sent, as_csv, as_json, as_mask, on_disk, overlay, predicted, tried
from bakeoff.serve.models import Loaded
from bakeoff.serve.responses import Json
from bakeoff.serve.served import Served
from bakeoff.serve.upload import LONGEST_NAME
from bakeoff.serve.worker import Place

Reply = Callable[[Loaded, Path, str], Response]  # from a model, a picture's file and its name


def served(request: Request) -> Served:
    """Return the study that the application serves."""
    found: Served = request.app.state.served
    return found


Study = Annotated[Served, Depends(served)]


class Asked(BaseModel):
    """What may be said of any question to a network, in the query."""

    candidate: str | None = Field(None, max_length=300, description="A candidate by its name. Default: the best one.")
    threshold: float = Field(0.5, ge=0, le=1, description="Leave out objects with a lower score.")
    name: str = Field("picture", max_length=LONGEST_NAME, description="What the picture is called in the answer.")


class Prediction(Asked):
    """A question of a program."""

    format: Literal["json", "csv", "overlay", "mask"] = Field("json", description="overlay and mask are PNGs.")

    def reply(self, loaded: Loaded, file: Path, name: str) -> Response:
        """Label a picture, and answer in the form that was asked for."""
        found = predicted(loaded, file, name, self.threshold)
        if self.format == "csv":
            return Response(as_csv(loaded, found), media_type="text/csv")
        if self.format == "overlay":
            return Response(overlay(found, decode(file)), media_type="image/png")
        if self.format == "mask":
            return Response(as_mask(found), media_type="image/png")
        return Json(as_json(loaded, found))


class Trial(Asked):
    """A question of the page."""

    wanted: str | None = Field(None, max_length=300, alias="class", description="The class to explain.")
    explain: bool = Field(True, description="Explain it by Grad-CAM (objects: LayerCAM), too.")

    def reply(self, loaded: Loaded, file: Path, name: str) -> Response:
        """Label a picture, draw what was found, and explain it."""
        return Json(tried(loaded, file, name, (self.threshold, self.wanted, self.explain)))


@dataclass(frozen=True)
class Whom:
    """A candidate, and which of its runs."""

    candidate: str
    run: str


async def answered(study: Served, place: Place, whom: Whom, sent: Callable[[], Sent], reply: Reply) -> Response:
    """Return the reply of a candidate's run to a picture, which is read in the networks' own thread.

    Raises HTTPException (503) when that takes too long, and what `reply` raises.
    """

    def job() -> Response:
        picture = sent()
        with on_disk(picture, study.limits) as file:
            return reply(study.models.load(whom.candidate, whom.run), file, picture.name)

    try:
        return await place.run(job, study.limits.answer)
    except TimeoutError:
        why = f"no answer within {study.limits.answer:g} seconds; ask again later, or send a smaller picture"
        raise HTTPException(503, why, {"Retry-After": "10"}) from None
