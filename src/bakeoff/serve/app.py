"""The application: routes behind the gate, and how errors are told."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bakeoff.errors import BakeoffError, UnreadableImage, UsageError
from bakeoff.serve import routes
from bakeoff.serve.answers import TooLarge
from bakeoff.serve.gate import Gate, Key
from bakeoff.serve.pages import pages
from bakeoff.serve.responses import Json, failure
from bakeoff.serve.served import Served
from bakeoff.serve.worker import Busy

ABOUT = (
    "Ask the trained candidates of a study about pictures. Send the token that `bakeoff serve` printed with every "
    "request, as `Authorization: Bearer TOKEN`. Answers that are errors have a field `error`."
)


def make_app(study: Served, key: Key) -> FastAPI:
    """Return the application that serves a study to those who have the key."""
    app = FastAPI(title="bakeoff serve", description=ABOUT, version="1", docs_url=None, redoc_url=None)
    app.state.served = study
    for router in (pages, routes.programs, routes.page):
        app.include_router(router)
    for kind, answer in ANSWERS.items():
        app.add_exception_handler(kind, answer)
    app.add_middleware(Gate, key=key, limits=study.limits, meters=study.meters)
    make = app.openapi

    def described() -> dict[str, Any]:
        content = make()
        content.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{"token": []}]
        return content

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's way to add to the description
    return app


def _http(_: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    nothing = error.status_code == 404 and error.detail == "Not Found"  # Starlette's own words
    why = "there is nothing at this address; /openapi.json describes what there is" if nothing else str(error.detail)
    return failure(error.status_code, why, error.headers)


def _parameter(_: Request, error: Exception) -> Json:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
    return failure(422, "; ".join(told))


def _own(_: Request, error: Exception) -> Json:
    """Answer an error that bakeoff raises on purpose: too large, unknown, unreadable, or a study that is broken."""
    kinds = ((TooLarge, 413), (UsageError, 404), (UnreadableImage, 422), (BakeoffError, 503))
    return failure(next(status for kind, status in kinds if isinstance(error, kind)), str(error))


def _busy(_: Request, error: Exception) -> Json:
    assert isinstance(error, Busy)
    return failure(429, str(error), {"Retry-After": str(error.retry)})


def _bug(_: Request, __: Exception) -> Json:
    """Answer a bug; its traceback is on the terminal."""
    return failure(500, "a bug in bakeoff; the terminal that serves this page says more")


ANSWERS = {
    HTTPException: _http,
    RequestValidationError: _parameter,
    BakeoffError: _own,
    Busy: _busy,
    Exception: _bug,
}
