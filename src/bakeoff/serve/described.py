"""The answers as the OpenAPI description shows them: for people who read it, and programs that are made from it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

BOX = "x1, y1, x2, y2 in the picture's pixels, from the top left corner of the upright picture"


class Failure(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="What happened, and what to do.")


class Alive(BaseModel):
    """The server lives."""

    status: str


class Region(BaseModel):
    """A class that occurs in a label map."""

    label: str
    pixels: int
    share: float = Field(description="Of the picture, 0..1.")


class Found(BaseModel):
    """An object."""

    label: str
    score: float
    box: list[float] = Field(description=BOX)
    pixels: int | None = Field(None, description="Instances: the area of the mask.")
    mask: dict[str, Any] | None = Field(None, description="Instances: COCO's run lengths, size (height, width).")


class Predicted(BaseModel):
    """What a candidate says of a picture, as `bakeoff predict --json` writes it."""

    candidate: str
    run: str = Field(description="The run whose trained model answered: the candidate's best on validation.")
    task: str = Field(description="classification, semantic, detection or instance")
    path: str = Field(description="The picture's name, as it was sent.")
    label: str | None = Field(None, description="Classification: the most probable class.")
    probability: float | None = Field(None, description="Classification: its probability.")
    scores: dict[str, float] | None = Field(None, description="Classification: the probability of every class.")
    size: list[int] | None = Field(None, description="The other tasks: width and height.")
    classes: list[Region] | None = Field(None, description="Semantic segmentation.")
    objects: list[Found] | None = Field(None, description="Detection and instance segmentation.")


class Tile(BaseModel):
    """A picture that explains, as a data URI, with what its check found."""

    title: str
    picture: str
    words: str
    warning: bool = Field(description="The map does not depend on what was learned: it explains nothing.")


class Explanation(BaseModel):
    """Why the candidate says so; `error` where it cannot be explained."""

    error: str | None
    tiles: list[Tile]


class Tried(Predicted):
    """A prediction with everything that the page shows."""

    seconds: float = Field(description="From the file to the prediction.")
    csv: str
    picture: str = Field(description="The picture with the prediction drawn on it, a data URI.")
    explanation: Explanation | None


class Said(BaseModel):
    """What the runs of a candidate say of a test image, together."""

    candidate: str
    letter: str
    colour: str
    label: str | None = Field(description="Classification: the class that most runs name.")
    score: float = Field(description="How well they do, 0..1; see `measure` of the study.")
    confidence: float | None
    wrong: bool
    spread: float = Field(description="How much the runs differ, 0..1.")
    picture: bool = Field(description="Whether there is a picture of a prediction.")


class TestImage(BaseModel):
    """A test image."""

    image: int = Field(description="Its number, for the other requests.")
    name: str
    truth: list[str] = Field(description="The classes that it has.")
    flags: list[str] = Field(description="Codes of the audit's findings about it.")
    candidates: list[Said]


class TestImages(BaseModel):
    """A page of test images that a filter chooses."""

    found: int = Field(description="On all pages together.")
    page: int
    pages: int
    images: list[TestImage]


def _failures(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return answers that are errors as the description has them."""
    return {status: {"model": Failure, "description": why} for status, why in reasons.items()}


REFUSALS = _failures(
    {
        401: "Neither the cookie nor the token.",
        403: "A request of another page.",
        421: "Another host name.",
    }
)
WRONG = _failures({404: "No such candidate, image, filter or class.", 422: "A parameter that is wrong."})
FAILURES = {
    **REFUSALS,
    **WRONG,
    **_failures(
        {
            400: "A body that cannot be understood.",
            408: "The picture did not arrive in time.",
            413: "Too many bytes or pixels.",
            415: "A body of another kind.",
            422: "No picture, one that cannot be read, or a parameter that is wrong.",
            429: "Too many requests wait: ask again after the seconds of Retry-After.",
            503: "The answer took too long, or a file of the study cannot be used.",
        }
    ),
}
