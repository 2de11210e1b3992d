"""Who may come in: hosts, tokens, cookies, origins; what may be opened; and the headers of every answer."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from bakeoff.serve.app import make_app
from bakeoff.serve.gate import HEADERS, Key
from bakeoff.serve.pages import ASSETS
from bakeoff.serve.responses import without_folders
from bakeoff.serve.served import open_study

from .conftest import PORT, Folders

KEY = Key(PORT, token="t" * 43, session="s" * 43)  # the same in every worker of the tests
OWN = {"Authorization": f"Bearer {KEY.token}"}
COOKIE = {"Cookie": f"{KEY.cookie}={KEY.session}"}
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def app(folders: Folders) -> object:
    """Return the application of a study."""
    return make_app(open_study(folders("classification").path), KEY)


@pytest.fixture
def stranger(app: object) -> TestClient:
    """Return a client without a token."""
    return TestClient(app, HERE, raise_server_exceptions=False)  # type: ignore[arg-type]


def test_the_token_is_exchanged_for_a_cookie_that_opens_the_page(stranger: TestClient) -> None:
    assert stranger.get("/").status_code == 401
    answer = stranger.get("/", params={"token": KEY.token})
    assert answer.status_code == 200
    assert answer.headers["refresh"] == "0; url=/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert KEY.token not in answer.headers["set-cookie"]
    assert KEY.token not in answer.text
    assert "main.js" in stranger.get("/").text
    assert stranger.get("/api/study").status_code == 200
    assert stranger.get("/", params={"token": "wrong"}).status_code == 403


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (200, "GET", "/health", {}),  # open to all, and says nothing
        (401, "GET", "/metrics", {}),  # no token
        (401, "GET", "/openapi.json", {}),  # nor for the description
        (401, "GET", "/report", {}),  # nor for the report
        (401, "GET", "/page/main.js", {}),  # nor for the page's files
        (401, "GET", "/there/is/nothing", {}),  # nor to learn what there is
        (401, "GET", "/metrics", {"Authorization": "Bearer wrong"}),  # a wrong token
        (401, "GET", "/metrics", {"Authorization": f"Basic {KEY.token}"}),  # the token as something else
        (401, "GET", "/metrics", {"Authorization": f"Bearer {KEY.session}"}),  # the cookie as a token
        (401, "GET", "/metrics", {"Cookie": f"{KEY.cookie}={KEY.token}"}),  # the token as a cookie
        (401, "GET", f"/metrics?token={KEY.token}", {}),  # the token in another address
        (200, "GET", "/metrics", OWN),  # the token
        (200, "GET", "/metrics", COOKIE),  # the cookie
        (421, "GET", "/metrics", {**OWN, "Host": "evil.example"}),  # a name bound to this machine
        (421, "GET", "/health", {"Host": f"evil.example:{PORT}"}),  # on the same port
        (421, "GET", "/metrics", {**OWN, "Host": "127.0.0.1"}),  # without the port
        (421, "GET", "/metrics", {**OWN, "Host": f"127.0.0.1:{PORT + 1}"}),  # another port
        (421, "GET", "/metrics", {**OWN, "Host": f"127.0.0.1:{PORT}.evil.example"}),  # a longer name
        (200, "GET", "/metrics", {**OWN, "Host": f"localhost:{PORT}"}),  # the other own name
        (422, "POST", "/predict", OWN),  # a program: let in, but it sent nothing
        (403, "POST", "/predict", COOKIE),  # the cookie without an origin
        (422, "POST", "/predict", {**COOKIE, "Origin": HERE}),  # the page itself
        (422, "POST", "/predict", {**COOKIE, "Sec-Fetch-Site": "same-origin"}),  # the page, said otherwise
        (403, "POST", "/predict", {**COOKIE, "Origin": "http://evil.example"}),  # another page
        (403, "POST", "/predict", {**OWN, "Origin": "http://evil.example"}),  # even with the token
        (403, "POST", "/predict", {**COOKIE, "Origin": f"http://localhost:{PORT}"}),  # another name of the same page
        (403, "POST", "/predict", {**COOKIE, "Origin": "null"}),  # a page shut off, the report say
        (403, "POST", "/predict", {**COOKIE, "Origin": HERE, "Sec-Fetch-Site": "cross-site"}),  # they contradict
        (403, "POST", "/predict", {**COOKIE, "Sec-Fetch-Site": "same-site"}),  # another port of this machine
        (401, "OPTIONS", "/predict", {"Origin": "http://evil.example"}),  # a preflight gets no leave
        (403, "DELETE", "/api/images", {**COOKIE}),  # another method
        (405, "DELETE", "/api/images", OWN),  # that there is not
        (404, "GET", "/docs", OWN),  # pages that load from elsewhere are off
    ],
)
def test_who_may_come_in(status: int, method: str, path: str, headers: dict[str, str], stranger: TestClient) -> None:
    answer = stranger.request(method, path, headers=headers)
    assert answer.status_code == status, answer.text
    assert not [name for name in answer.headers if name.startswith("access-control")]
    if status >= 400:
        assert set(answer.json()) == {"error"}


def test_two_host_names_are_refused(stranger: TestClient) -> None:
    twice = [("Host", f"127.0.0.1:{PORT}"), ("Host", "evil.example"), *OWN.items()]
    assert stranger.get("/metrics", headers=twice).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/page/../served.py",
        "/page/..%2fserved.py",
        "/page/%2e%2e/served.py",
        "/page/%2e%2e%2fserved.py",
        "/page/..%5cserved.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/index.html%00.js",
        "/page/.",
        "/api/images/../../study.toml",
        "/api/images/%2e%2e%2f%2e%2e%2fstudy.toml",
        "/api/images/-1",
        "/api/images/0/picture?of=../../etc/passwd",
        "/api/images/0/picture?of=file:///etc/passwd",
        "/report/../study.toml",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out(path: str, stranger: TestClient) -> None:
    answer = stranger.get(path, headers=OWN)
    assert answer.status_code in (404, 422), path
    assert set(answer.json()) == {"error"}


def test_names_of_uploads_are_never_opened(stranger: TestClient, folders: Folders) -> None:
    for name in ("../../study.toml", "/etc/passwd", "a\0b", "\u202e", "=1+1"):
        answer = stranger.post("/predict", params={"name": name}, content=b"x", headers=OWN)
        assert answer.status_code == 422, answer.text
        assert "none of the formats" in answer.json()["error"]
    path = folders("classification").path
    answer = stranger.post("/predict", params={"candidate": f"{path}/runs/x"}, content=b"x", headers=OWN)
    assert answer.status_code == 404
    assert str(path) not in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/report", "/api/study", "/page/main.js", "/nothing", "/health", "/metrics"])
@pytest.mark.parametrize("headers", [OWN, {}], ids=["let in", "a stranger"])
def test_every_answer_has_the_headers_that_keep_browsers_strict(
    path: str, headers: dict[str, str], stranger: TestClient
) -> None:
    answer = stranger.get(path, headers=headers)
    assert set(HEADERS) <= set(answer.headers)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "'unsafe-eval'" not in policy
    assert "http" not in policy
    if path == "/" and headers:
        assert "script-src 'self'" in policy
        assert "unsafe-inline" not in policy
    if path == "/report" and headers:
        assert "script-src 'sha256-" in policy
        assert "sandbox allow-scripts" in policy
        assert "allow-same-origin" not in policy
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"


def test_the_page_needs_nothing_from_elsewhere_and_no_script_in_it(stranger: TestClient) -> None:
    page = stranger.get("/", headers=OWN).text
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page
    texts = [page, *(stranger.get(f"/page/{name}", headers=OWN).text for name in ASSETS)]
    assert all(texts)
    joined = "\n".join(texts).replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in joined
    assert "https:" not in joined
    assert "innerHTML" not in joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/st/runs/a.npz: cannot be read", "a.npz: cannot be read"),  # a file
        ("weights /a/b and '/c/d/e.json' differ", "weights b and 'e.json' differ"),  # two, one in quotes
        ("send image/* or a/b", "send image/* or a/b"),  # no paths
        ("1/2 of http://127.0.0.1:8642", "1/2 of http://127.0.0.1:8642"),  # nor these
    ],
)
def test_errors_hold_no_folders(text: str, expected: str) -> None:
    assert without_folders(text) == expected
