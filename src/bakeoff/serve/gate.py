"""The gate before every request: who asks, from where, how much; and the headers of every answer.

The server is for one person on this machine, but every page that is open in the browser, and every other user of the
machine, can reach its port.  Host names are checked against DNS rebinding, the token against strangers, Origin and
Sec-Fetch-Site against other pages, a content security policy against what might be smuggled into a page.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bakeoff.serve.limits import Limits
from bakeoff.serve.meters import Meters
from bakeoff.serve.responses import failure

SAFE_METHODS = ("GET", "HEAD")
OPEN_PATHS = ("/health",)  # says that the server lives, and nothing else
OWN_SITES = ("same-origin", "none")
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "cache-control": "no-store",
}
WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>bakeoff</title>
<p><a href="/">Open the study</a></p></html>"""


@dataclass(frozen=True)
class Key:
    """What opens the server at a port: `token` in the first address and for programs, `session` in the cookie.

    They differ, because a browser shows the cookie to every server on the same host, whatever its port.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that the server answers to."""
        return (f"127.0.0.1:{self.port}", f"localhost:{self.port}")

    @property
    def url(self) -> str:
        """The address that opens it."""
        return f"http://{self.hosts[0]}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The cookie's name: servers at other ports have others."""
        return f"bakeoff-{self.port}"


class Gate:
    """ASGI middleware: lets those in who may come in, counts what they bring, and measures how long they wait."""

    def __init__(self, app: ASGIApp, key: Key, limits: Limits, meters: Meters) -> None:
        """Stand before an application."""
        self.app, self.key, self.limits, self.meters = app, key, limits, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), [500]

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            answer = self._answer(Request(scope))
            if answer is not None:
                await answer(scope, receive, noted)
            else:
                await self.app(scope, partial(self._counted, receive, [0]), noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.meters.count(scope["method"], route, status[0], time.perf_counter() - start)

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that does not pass, or that brings the token; None when it passes."""
        headers = request.headers
        if headers.getlist("host") not in [[host] for host in self.key.hosts]:
            return failure(421, f"this server answers to {' and '.join(self.key.hosts)} alone")
        if request.url.path in OPEN_PATHS and request.method in SAFE_METHODS:
            return None
        if request.url.path == "/" and "token" in request.query_params and request.method == "GET":
            return self._welcome(request.query_params["token"])
        who = self._who(request)
        if who is None:
            why = "open the address that `bakeoff serve` printed, or send its token: Authorization: Bearer TOKEN"
            return failure(401, why, {"WWW-Authenticate": "Bearer"})
        if request.method not in SAFE_METHODS and (why := _foreign(headers, who)):
            return failure(403, why)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.bytes:
            return failure(413, _too_much(self.limits))
        return None

    def _welcome(self, token: str) -> Response:
        """Exchange the token for a cookie, and move on to an address without it.

        By a page that refreshes itself, not by a redirect: a browser that came here from another site would not send
        a SameSite=Strict cookie on a redirect.
        """
        if not _equal(token, self.key.token):
            return failure(403, "this is not the token of this server; open the address that it printed when it began")
        answer = HTMLResponse(WELCOME, headers={"Refresh": "0; url=/"})
        answer.set_cookie(self.key.cookie, self.key.session, httponly=True, samesite="strict", path="/")
        return answer

    def _who(self, request: Request) -> str | None:
        """Say whether a "program" asks, with the token, or a "browser", with the cookie; None for strangers."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self.key.token):
            return "program"
        return "browser" if _equal(request.cookies.get(self.key.cookie, ""), self.key.session) else None

    async def _counted(self, receive: Receive, taken: list[int]) -> Message:
        """Receive a piece of the body.  Raises HTTPException when it has become too long."""
        message = await receive()
        taken[0] += len(message.get("body", b""))
        if taken[0] > self.limits.bytes:
            raise HTTPException(413, _too_much(self.limits))
        return message


def _foreign(headers: Headers, who: str) -> str:
    """Say why a request that may change something does not come from this server's own page; "" when it does."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin != f"http://{headers['host']}":
        return "requests from other pages are refused (their Origin is not this server)"
    if site is not None and site not in OWN_SITES:
        return "requests from other sites are refused (Sec-Fetch-Site)"
    if who == "browser" and origin is None and site is None:
        return "a browser says where a request comes from (Origin); programs send the token, not the cookie"
    return ""


def _equal(given: str, secret: str) -> bool:
    """Compare without telling by the time taken how much is right."""
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def _too_much(limits: Limits) -> str:
    return f"more than {limits.bytes:,} bytes: make the picture smaller"
