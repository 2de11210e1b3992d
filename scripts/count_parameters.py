"""Count the parameters of every timm architecture and write the table that `bakeoff models` lists from.

Nothing is computed or downloaded: networks are built on torch's meta device.  Run again when timm's version changes:
    python scripts/count_parameters.py
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from bakeoff.files import write_text
from bakeoff.models.layers import parameters

TABLE = Path(__file__).parents[1] / "src" / "bakeoff" / "models" / "timm_parameters.tsv"


def main() -> None:
    """Build each architecture as timm does by default (1,000 classes for most) and count."""
    lines = [f"# timm {timm.__version__}: architecture, parameters (by scripts/count_parameters.py)"]
    for name in timm.list_models():
        with torch.device("meta"):
            lines.append(f"{name}\t{parameters(timm.create_model(name))}")
    write_text(TABLE, "\n".join(lines) + "\n")
    print(f"{TABLE}: {len(lines) - 1} architectures")


if __name__ == "__main__":
    main()
