"""A study as a local page: its report, its test images, and its candidates asked about a picture; also for programs."""

from bakeoff.serve.server import serve

__all__ = ["serve"]
