"""How `bakeoff serve` bears a crowd: latencies, refusals, memory, and whether any answer is wrong.

A small study is trained and served in a process of its own.  Clients ask at once about pictures of many sizes, torn
files, pictures that promise too many pixels and files that are too large, and compare every answer with that of
`bakeoff predict`.  Who is told to come again (429) does so after the time that was named.

    python benchmarks/serve_load.py [requests] [clients ...]
"""

from __future__ import annotations

import http.client
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from bakeoff.data import formats
from bakeoff.data.digits import write_digits
from bakeoff.verbs import run
from bakeoff.verbs_predict import predict

SETTINGS = {
    "size": 32,
    "seeds": 1,
    "repeat_one": False,
    "recipe.epochs": 2,
    "candidates": [{"name": "cnn", "model": {"arch": "small:cnn"}}, {"name": "mlp", "model": {"arch": "small:mlp"}}],
}
NEAR = 1e-6
TOO_LARGE, CUT_OFF = 413, 0  # the second: the server had refused and gone before it could be heard


@dataclass(frozen=True)
class Sample:
    """What is sent, and what must come back: a status, and where it is 200 the scores."""

    kind: str
    content: bytes
    status: int
    scores: dict[str, float] = field(default_factory=dict)


@dataclass
class Tally:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def picture(width: int, height: int, seed: int, format: str) -> bytes:
    """Return a picture of smooth colours; as BMP it is as large as it can be."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """Return a small PNG that promises side x side pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0" * 10**6)) + part(b"IEND", b"")


def samples(study: Path, folder: Path) -> list[Sample]:
    """Return what is sent in turn: of twenty requests sixteen are pictures."""
    sizes = [(200, 150, "PNG"), (640, 480, "JPEG"), (1920, 1080, "JPEG"), (4000, 3000, "JPEG")]
    good = [(f"{w} x {h}", picture(w, h, 4 * n + i, f)) for n in range(4) for i, (w, h, f) in enumerate(sizes)]
    good.append(("20 MB", picture(2960, 2240, 1, "BMP")))
    for number, (_, content) in enumerate(good):
        (folder / f"{number:02}").write_bytes(content)
    files = sorted(folder.iterdir())
    found = {entry.path: entry.scores for entry in predict(study, files)}
    pictures = [Sample(kind, content, 200, found[str(f)]) for (kind, content), f in zip(good, files, strict=True)]
    torn = Sample("torn", good[1][1][: len(good[1][1]) // 2], 422)
    return [*pictures, torn, Sample("bomb", bomb(30_000), 422), Sample("21 MB", bytes(21_000_000), TOO_LARGE)]


@contextmanager
def serving(study: Path) -> Iterator[tuple[str, str, int]]:
    """Yield host and port, token and process id of a server."""
    command = [sys.executable, "-m", "bakeoff", "serve", str(study), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        yield address.netloc, parse_qs(address.query)["token"][0], process.pid
        process.terminate()


def ask(host: str, token: str, sample: Sample, tally: Tally) -> None:
    """Send one picture until it is answered, and judge the answer."""
    while True:
        start = time.perf_counter()
        connection = http.client.HTTPConnection(host, timeout=300)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        with suppress(OSError):  # refused before all was sent: the answer may be there to be read
            connection.request("POST", "/predict", sample.content, headers)
        try:
            answer = connection.getresponse()
            status, body, later = answer.status, answer.read(), answer.headers.get("Retry-After", "1")
        except (OSError, http.client.HTTPException):
            status, body, later = CUT_OFF, b"", "1"
        connection.close()
        with tally.lock:
            tally.statuses[status] += 1
        if status == 429:
            time.sleep(float(later))
            continue
        with tally.lock:
            tally.seconds.append(time.perf_counter() - start)
            tally.wrong += [f"{sample.kind}: {status}"] * (not right(sample, status, body))
        return


def right(sample: Sample, status: int, body: bytes) -> bool:
    """Say whether an answer is what it must be."""
    if status != sample.status:
        return status == CUT_OFF and sample.status == TOO_LARGE
    found = json.loads(body)["scores"] if status == 200 else {}
    return all(abs(found[name] - value) <= NEAR for name, value in sample.scores.items())


def resident(process: int) -> float:
    """Return the memory of a process in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Serve, ask, print."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        whole = formats.read(write_digits(folder / "all", 16))
        formats.write(whole.without(r.id for i, r in enumerate(whole.records) if i % 4), folder / "digits", "folder")
        run(folder / "digits", folder / "study", settings=SETTINGS)
        sent = samples(folder / "study", folder / "pictures")
        print("clients  requests  p50 s  p95 s  429 of all  wrong  MB before  MB after")
        with serving(folder / "study") as (host, token, process):
            ask(host, token, sent[0], Tally())  # the model is loaded now
            for clients in map(int, sys.argv[2:] or ("1", "16", "48")):
                tally, before = Tally(), resident(process)
                with ThreadPoolExecutor(clients) as pool:
                    list(pool.map(partial(ask, host, token, tally=tally), islice(cycle(sent), requests)))
                late = statistics.quantiles(tally.seconds, n=20)[-1]
                turned = tally.statuses[429] / tally.statuses.total()
                print(
                    f"{clients:7}  {len(tally.seconds):8}  {statistics.median(tally.seconds):5.2f}  {late:5.2f}  "
                    f"{turned:10.1%}  {len(tally.wrong):5}  {before:9.0f}  {resident(process):8.0f}"
                )
                print(f"         {dict(sorted(tally.statuses.items()))} {sorted(set(tally.wrong)) or ''}")


if __name__ == "__main__":
    main()
