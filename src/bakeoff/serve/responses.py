"""Answers as JSON, errors too: {"error": what and what to do}, without tracebacks and without paths of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from bakeoff.report.wording import visible

FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s:;,'\"()]+/)+(?=[^/\s])")


class Json(Response):
    """JSON in ASCII: names of files may hold what is no valid UTF-8."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it; NaN is refused, since it is not JSON."""
        return json.dumps(content, allow_nan=False).encode("ascii")


def failure(status: int, error: str, headers: Mapping[str, str] | None = None) -> Json:
    """Return an error as an answer."""
    return Json({"error": visible(without_folders(error))}, status, headers)


def without_folders(text: str) -> str:
    """Take the folders of absolute paths out of a text: only the last name stays.

    >>> without_folders("/home/ann/study/runs/a.npz: cannot be read")
    'a.npz: cannot be read'
    """
    return FOLDERS.sub("", text)
