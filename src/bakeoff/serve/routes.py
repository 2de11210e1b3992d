"""Which request is answered by what: /predict, /health and /metrics for programs, /api for the page."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import Response

from bakeoff.errors import DataError
from bakeoff.serve import described
from bakeoff.serve.answers import Sent
from bakeoff.serve.asking import Prediction, Study, Trial, Whom, answered
from bakeoff.serve.pictures import png
from bakeoff.serve.responses import Json, failure
from bakeoff.serve.served import Served
from bakeoff.serve.upload import BODY, received

Answers = dict[int | str, dict[str, Any]]
programs, page = APIRouter(tags=["for programs"]), APIRouter(prefix="/api", tags=["of the page"])
WEBP: Answers = {200: {"content": {"image/webp": {}}, "description": "A small picture."}}
TEXT: Answers = {200: {"content": {"text/plain": {}}, "description": "Prometheus text."}}
FORMS: Answers = {200: {"content": {"text/csv": {}, "image/png": {}}, "description": "In the form asked for."}}


@programs.get("/health", response_model=described.Alive, responses={421: described.FAILURES[421]})
def health() -> Json:
    """Say that the server lives; needs no token."""
    return Json({"status": "ok"})


@programs.get("/metrics", response_class=Response, responses={**described.REFUSALS, **TEXT})
def metrics(study: Study) -> Response:
    """Return requests, latencies, the queue and the models in memory, as Prometheus text."""
    return Response(study.metrics(), media_type="text/plain; version=0.0.4")


@programs.post(
    "/predict", response_model=described.Predicted, responses={**described.FAILURES, **FORMS}, openapi_extra=BODY
)
async def predict(request: Request, study: Study, asked: Annotated[Prediction, Query()]) -> Response:
    """Label one picture, exactly as `bakeoff predict` does."""
    whom = _best(study, asked.candidate)
    with study.worker.place() as place:
        sent = await received(request, asked.name, study.limits)
        return await answered(study, place, whom, lambda: sent, asked.reply)


@page.get("/study", responses=described.REFUSALS)
def about(study: Study) -> Json:
    """Return what the study is about: task, verdict, classes, candidates, filters, limits."""
    return Json(study.study)


@page.get("/images", response_model=described.TestImages, responses={**described.REFUSALS, **described.WRONG})
def images(
    study: Study,
    show: Annotated[str, Query(max_length=40, description="A filter of the study.")] = "all",
    candidate: Annotated[str | None, Query(max_length=300, description="Whom it is about. Default: anyone.")] = None,
    truth: Annotated[int | None, Query(ge=0, le=10**6, description="A class that an image has, by its place.")] = None,
    number: Annotated[int, Query(ge=1, le=10**6, alias="page")] = 1,
) -> Json:
    """Return the test images that a filter chooses, a page at a time."""
    return Json(study.images(show, candidate, truth, number))


@page.get("/images/{image}", response_model=described.TestImage, responses={**described.REFUSALS, **described.WRONG})
def test_image(study: Study, image: int) -> Json:
    """Return what there is to say of a test image."""
    return Json(study.image(_row(study, image)))


@page.get(
    "/images/{image}/picture",
    response_class=Response,
    responses={**described.REFUSALS, **described.WRONG, **WEBP},
)
def picture(
    study: Study,
    image: int,
    of: Annotated[
        str, Query(pattern=r"^(image|truth|[0-9]{1,4})$", description="image, truth, or the place of a candidate")
    ] = "image",
) -> Response:
    """Return a small picture of a test image, with its truth or a candidate's kept prediction drawn on it."""
    row = _row(study, image)
    try:
        content, kind = study.pictures.encoded(row, of)
    except DataError as error:
        return failure(404, str(error))
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=600"})


@page.post("/try", response_model=described.Tried, responses=described.FAILURES, openapi_extra=BODY)
async def try_picture(request: Request, study: Study, asked: Annotated[Trial, Query()]) -> Response:
    """Label one picture, draw what was found, and explain it."""
    whom = _best(study, asked.candidate)
    with study.worker.place() as place:
        sent = await received(request, asked.name, study.limits)
        return await answered(study, place, whom, lambda: sent, asked.reply)


@page.post("/images/{image}/try", response_model=described.Tried, responses=described.FAILURES)
async def try_image(study: Study, image: int, asked: Annotated[Trial, Query()]) -> Response:
    """Do the same with a test image; a run answers that was not trained on it."""
    candidate, row = study.models.known(asked.candidate), _row(study, image)
    whom = Whom(candidate, study.judge(candidate, row))
    with study.worker.place() as place:
        return await answered(study, place, whom, lambda: _sent(study, row), asked.reply)


def _best(study: Served, candidate: str | None) -> Whom:
    """Return a candidate's best run, as `bakeoff predict` takes it; UsageError for one that there is not."""
    known = study.models.known(candidate)
    return Whom(known, study.models.best[known])


def _row(study: Served, image: int) -> int:
    """Return a test image's number; HTTPException (404) for one that there is not."""
    if not 0 <= image < len(study.tested):
        raise HTTPException(404, f"there is no test image {image}; they are numbered from 0 to {len(study.tested) - 1}")
    return image


def _sent(study: Served, row: int) -> Sent:
    """Return a test image from its file as a picture that is sent, not a pixel changed."""
    return Sent(png(study.pictures.original(row)), study.tested.ids[row])
