"""Guards: is a network whole?  A few made-up images tell, before hours of training do not.

They would have caught a U-Net whose skip connections carried nothing, and an encoder that was never trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bakeoff.findings import Finding, Severity, printable

TITLES = {"skip": "skip connections", "gradient": "gradients", "overfit": "learning by heart"}


def check(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Try one candidate's network with random weights on made-up images, at a small size.

    The payload is that of timing.measure: `candidate`, `model`, `recipe`, `classes`, `size`, `task`, `device`.  Yields
    one fact {"kind": "guards", "candidate": …, "results": [{"code", "ok", "sentence"}, …]}, one result per guard:

    skip      zeros in the place of any one skip connection change the output of an encoder-decoder
    gradient  within a few training steps every parameter that the recipe trains gets a finite gradient that is not 0
    overfit   a handful of images can be told apart: trained on them, the network's loss falls to half of the loss that
              the same images have with one another's targets (a network that ignores its input stays at 1 times,
              whatever the smallest value of the task's loss is); not decided when it takes more than 20 seconds

    A guard that does not apply, or was not decided, is ok and says so.  Raises what models.build raises.
    """
    from bakeoff.guards.probes import gradient, overfit, skip  # the report reads findings without waiting for torch
    from bakeoff.guards.subject import Subject

    subject = Subject.of(payload)
    results = [guard(subject) for guard in (skip, gradient, overfit)]
    yield {"kind": "guards", "candidate": payload["candidate"], "results": results}


def findings(stored: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return a finding per guard from guards.json, {candidate: {"results": […]}}: an error names who fails and why.

    () where no guard was asked.
    """
    found = []
    for code, title in TITLES.items():
        asked = {
            name: result for name, entry in stored.items() for result in entry["results"] if result["code"] == code
        }
        failed = {name: result for name, result in asked.items() if not result["ok"]}
        told = failed or asked
        severity: Severity = "error" if failed else "info"
        words = "; ".join(f"{printable(name)}: {printable(result['sentence'])}" for name, result in told.items())
        if asked:
            found.append(
                Finding(f"guard-{code}", severity, f"Guard {title} {'failed' if failed else 'passed'}: {words}.")
            )
    return tuple(found)
