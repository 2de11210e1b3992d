"""The page's own files, and the report with the policy that it was written for."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException
from starlette.responses import HTMLResponse, Response

from bakeoff.serve.asking import Study

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {script}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts allow-popups allow-modals"
)
OWN_SCRIPT = re.compile(r"http-equiv=\"Content-Security-Policy\" content=\"[^\"]*script-src ('sha256-[A-Za-z0-9+/=]+')")
ASSETS = {
    "style.css": ("bakeoff.report", "templates/style.css", "text/css"),  # the report's: both look alike
    "page.css": ("bakeoff.serve", "page/page.css", "text/css"),
    **{name: ("bakeoff.serve", f"page/{name}", "text/javascript") for name in ("main.js", "browse.js", "try.js")},
    **{name: ("bakeoff.serve", f"page/{name}", "text/javascript") for name in ("camera.js", "elements.js")},
    "icon.svg": ("bakeoff.serve", "page/icon.svg", "image/svg+xml"),
}

pages = APIRouter(include_in_schema=False)


@pages.get("/")
def index() -> Response:
    """Return the page."""
    return HTMLResponse(_asset("bakeoff.serve", "page/index.html"), headers={"Content-Security-Policy": POLICY})


@pages.get("/page/{name}")
def asset(name: str) -> Response:
    """Return one of the page's files, by its name in a list: no path of a request is ever opened."""
    if name not in ASSETS:
        raise HTTPException(404, "there is no such file")
    package, file, kind = ASSETS[name]
    return Response(_asset(package, file), media_type=kind)


@pages.get("/report")
def report(study: Study) -> Response:
    """Return report.html, shut off from the page: as if it came from another site, with no script but its own."""
    file = study.material.folder.report
    if not file.is_file():
        raise HTTPException(404, "the study has no report; write it: bakeoff report STUDY")
    text = file.read_bytes()
    own = OWN_SCRIPT.search(text[:4000].decode("utf-8", "replace"))
    policy = REPORT_POLICY.format(script=own[1] if own else "'none'")
    return HTMLResponse(text, headers={"Content-Security-Policy": policy, "X-Frame-Options": "SAMEORIGIN"})


@cache
def _asset(package: str, file: str) -> bytes:
    """Read a file of the package."""
    return files(package).joinpath(file).read_bytes()
