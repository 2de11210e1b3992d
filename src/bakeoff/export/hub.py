"""A timm classifier in the form of the model hub: model.safetensors and config.json, which timm itself loads back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bakeoff.data.decode import Resize
from bakeoff.data.load import to_float
from bakeoff.data.targets import Label, Target
from bakeoff.errors import Refused
from bakeoff.export.graph import quiet
from bakeoff.models import from_timm
from bakeoff.models.spec import Head
from bakeoff.models.trained import Trained

WEIGHTS, CONFIG = "model.safetensors", "config.json"
CROP_MODES: dict[Resize, str] = {"squash": "squash", "crop": "center", "pad": "border"}  # timm's words


def write_hub(model: Trained, folder: Path) -> None:
    """Write a classifier into a folder as `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it.

    Normalisation moves from the network into pretrained_cfg, where timm's transforms look for it.  Raises Refused for
    networks that timm does not know.
    """
    from timm.models import save_for_hf

    body = timm_body(model)
    data = {
        "input_size": (3, model.size, model.size),
        "mean": tuple(model.network.mean.flatten().tolist()),
        "std": tuple(model.network.std.flatten().tolist()),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": CROP_MODES[model.resize],
    }
    stated = {"license": model.network.card.licence or "unknown", "tag": "bakeoff"}  # else timm's, of its own weights
    config = {"label_names": list(model.classes), "pretrained_cfg": stated}
    with quiet():
        save_for_hf(body, str(folder), model_config=config, safe_serialization=True, data_config=data)


def timm_body(model: Trained) -> Any:
    """Return the network as timm made it.  Raises Refused where it is not timm's as a whole."""
    if model.task != "classification" or model.spec.source != from_timm.NAME:
        raise Refused(
            f"{model.spec.source}:{model.spec.arch} ({model.task}) has no form on the hub that another library loads: "
            "--to hub is for classifiers from timm; use --to onnx"
        )
    if model.spec.head != Head():
        raise Refused(
            f"{model.spec.arch}: its head is not timm's own ({model.spec.head!r}), so timm cannot load it back; use "
            "--to onnx"
        )
    return model.network.body


class HubRunner:
    """Runs a folder with timm's own loading: uint8 images (B, S, S, 3) -> labels."""

    def __init__(self, folder: Path) -> None:
        """Load the folder as anybody would."""
        import timm

        with quiet():
            self._model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        config: Any = self._model.pretrained_cfg
        self._mean, self._std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image."""
        with torch.inference_mode():
            logits = self._model((to_float(pixels).contiguous() - self._mean) / self._std)
        rows = logits.float().softmax(dim=1).numpy()
        return [Label(int(row.argmax()), tuple(row.tolist())) for row in rows]
