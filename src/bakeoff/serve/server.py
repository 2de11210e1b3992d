"""bakeoff serve: the application on a port of this machine alone, until someone stops it."""

from __future__ import annotations

import errno
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from bakeoff.errors import ResourceError, UsageError

HOST, PORT, LAST_PORT = "127.0.0.1", 8642, 65_535
NEEDED = ("fastapi", "uvicorn", "python_multipart")
CONNECTIONS = 128  # at once, above which new ones are turned away (503)
GOODBYE = 5  # seconds that requests have to end after Ctrl-C


def serve(
    study: str | Path,
    port: int = PORT,
    open_page: bool | None = False,
    tell: Callable[[str], None] | None = print,
) -> None:
    """Serve a finished study on 127.0.0.1 until Ctrl-C: its report, its test images, its candidates.

    `tell` is given the address, with the token that opens it, once it can be opened.  `open_page` opens it in the
    browser (None: where this is a terminal with a screen).  `port` 0 is any that is free.

    Raises UsageError for what is no finished study and where the extra is not installed, ResourceError for a port
    that is taken, DataError where files of the study are damaged.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"serve needs {', '.join(missing)}: pip install 'bakeoff[serve]'")
    import uvicorn

    from bakeoff.serve.app import make_app
    from bakeoff.serve.gate import Key
    from bakeoff.serve.served import open_study

    served = open_study(Path(study))
    with _bound(port) as listener:
        key = Key(listener.getsockname()[1])
        config = uvicorn.Config(
            make_app(served, key),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody stands before it: headers that say so are not believed
            http="h11",
            ws="none",
            lifespan="off",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GOODBYE,
        )
        if tell is not None:
            tell(key.url)
        if _has_screen() if open_page is None else open_page:
            webbrowser.open(key.url)
        with suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[listener])
        served.worker.close()


def _bound(port: int) -> socket.socket:
    """Return a socket that listens on this machine alone.

    Raises UsageError for a number that is no port, ResourceError for a port that cannot be had.
    """
    if not 0 <= port <= LAST_PORT:
        raise UsageError(f"a port lies in 0 to {LAST_PORT}, not {port}; 0 is any that is free")
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken, by another `bakeoff serve` perhaps" if taken else f"cannot be used ({error.strerror})"
        raise ResourceError(f"port {port} {why}; name another one with --port, or 0 for any that is free") from None


def _has_screen() -> bool:
    """Say whether a person sits before this terminal with a graphical browser."""
    graphical = sys.platform in ("darwin", "win32") or any(
        name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return graphical and sys.stderr.isatty()
