"""The picture in a request's body: its bytes as they are, or a form with a file."""

from __future__ import annotations

import asyncio

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile

from bakeoff.serve.answers import Sent
from bakeoff.serve.limits import Limits

FORM, ANY = "multipart/form-data", "application/octet-stream"
LONGEST_NAME = 200
BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one image file (JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, …), or a form with one.",
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            ANY: {"schema": {"type": "string", "format": "binary"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


async def received(request: Request, name: str, limits: Limits) -> Sent:
    """Return the picture of a request; its name is the form's, or `name`.

    Raises HTTPException for a body of another kind (415), an empty one (422), one that takes too long (408); a body
    that is too long is refused by the gate while it comes (413).
    """
    kind = request.headers.get("content-type", ANY).partition(";")[0].strip().lower()
    if kind != FORM and kind != ANY and not kind.startswith("image/"):
        raise HTTPException(415, f"send the bytes of an image as image/* or {ANY}, or a form ({FORM}), not {kind[:80]}")
    try:
        async with asyncio.timeout(limits.upload):
            sent = await _form(request, name) if kind == FORM else Sent(await request.body(), name)
    except TimeoutError:
        raise HTTPException(408, f"the picture did not arrive within {limits.upload:g} seconds") from None
    if not sent.content:
        raise HTTPException(422, "there is no picture in the request")
    return sent


async def _form(request: Request, name: str) -> Sent:
    """Return the file of a form's field "image", or of its only file."""
    async with request.form(max_files=1, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(422, 'the form has no file; name its field "image"')
        return Sent(await files[0].read(), (files[0].filename or name)[:LONGEST_NAME])
