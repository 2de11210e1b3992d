"""What the server measures of itself, in the text form that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

METHODS = ("GET", "HEAD", "POST")  # others are counted together, so that nobody can make the table grow
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)  # seconds
Labels = tuple[tuple[str, str], ...]


@dataclass
class Meters:
    """Requests by route and status, and their latencies."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    latencies: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * len(BUCKETS)))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        with self._lock:
            self.requests[method if method in METHODS else "other", route, status] += 1
            self.seconds[route] += seconds
            for place, bound in enumerate(BUCKETS):
                self.latencies[route][place] += seconds <= bound

    def text(self, gauges: Mapping[str, tuple[str, Iterable[tuple[Labels, float]]]]) -> str:
        """Return everything as Prometheus text (version 0.0.4); `gauges` are name -> (help, (labels, value) …)."""
        with self._lock:
            totals = [
                ((("method", method), ("route", route), ("status", str(status))), float(number))
                for (method, route, status), number in sorted(self.requests.items())
            ]
            lines = _block("bakeoff_requests_total", "counter", "Requests answered.", totals)
            lines += ["# HELP bakeoff_request_seconds Time to answer.", "# TYPE bakeoff_request_seconds histogram"]
            for route in sorted(self.latencies):
                lines += self._histogram(route)
        for name, (about, values) in gauges.items():
            lines += _block(name, "gauge", about, values)
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str) -> list[str]:
        """Return the latencies of one route."""
        own = (("route", route),)
        number = sum(count for (_, other, _), count in self.requests.items() if other == route)
        pairs = zip((*map(str, BUCKETS), "+Inf"), (*self.latencies[route], number), strict=True)
        lines = [_line("bakeoff_request_seconds_bucket", (*own, ("le", bound)), count) for bound, count in pairs]
        lines.append(_line("bakeoff_request_seconds_sum", own, self.seconds[route]))
        return [*lines, _line("bakeoff_request_seconds_count", own, number)]


def _block(name: str, kind: str, about: str, values: Iterable[tuple[Labels, float]]) -> list[str]:
    """Return one metric with its description."""
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *(_line(name, *value) for value in values)]


def _line(name: str, labels: Labels, value: float) -> str:
    """Write one sample; quotes, backslashes and line ends in a label are escaped."""
    table = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    inside = ",".join(f'{key}="{text.translate(table)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:.6g}" if inside else f"{name} {value:.6g}"
