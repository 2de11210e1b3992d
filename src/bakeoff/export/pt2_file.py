"""A trained network as a torch.export program (.pt2), and running one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.data.targets import Target
from bakeoff.errors import Refused
from bakeoff.export.graph import BY_OBJECTS, Graph, example, graph_of, interface_of, quiet, reason
from bakeoff.models.trained import Trained
from bakeoff.predict.interface import Interface, label_images

NOTE = "bakeoff.json"  # the interface, inside the file


def write_pt2(model: Trained, content: dict[str, Any], pixels: NDArray[np.uint8], path: Path) -> Interface:
    """Write a model as a .pt2 file, with the interface of the ONNX file; arguments as in write_onnx.

    Raises Refused for networks that torch.export cannot follow; torchvision's detectors are among them.
    """
    graph = graph_of(model)
    program = None if model.task in BY_OBJECTS else _program(graph, pixels, dynamic=True)
    free = program is not None and isinstance(_batch(program), torch.SymInt)
    if program is None or not free:
        program = _program(graph, pixels, dynamic=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    interface = interface_of(model, content, None if free else 1)
    with quiet():
        torch.export.save(program, path, extra_files={NOTE: json.dumps(interface.to_metadata())})
    return interface


def _program(graph: Graph, pixels: NDArray[np.uint8], dynamic: bool) -> Any:
    """Follow the network; with `dynamic` torch finds out whether the number of images may vary."""
    shapes = ({0: torch.export.Dim.AUTO},) if dynamic else None
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(graph, (example(pixels, 2 if dynamic else 1),), dynamic_shapes=shapes)
    except Exception as error:  # its errors have many classes
        if graph.task in BY_OBJECTS:
            raise Refused(
                "this network cannot become a .pt2 file: how many objects are kept depends on the image, which "
                f"torch.export cannot follow through its code ({reason(error)}); use --to onnx"
            ) from error
        raise Refused(f"this network cannot be exported with torch.export: {reason(error)}") from error


def _batch(program: Any) -> Any:
    """Return the number of images that a program takes, a symbol where any."""
    name = program.graph_signature.user_inputs[0]
    return next(node for node in program.graph.nodes if node.name == name).meta["val"].shape[0]


class Pt2Runner:
    """Runs a .pt2 file: uint8 images (B, S, S, 3) -> predictions."""

    def __init__(self, path: Path) -> None:
        """Open a file that write_pt2 wrote."""
        notes = {NOTE: ""}
        with quiet():
            self._module = torch.export.load(path, extra_files=notes).module()
        self.interface = Interface.from_metadata(json.loads(notes[NOTE]), path)

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Target]:
        """Return a prediction per image."""
        return label_images(self.interface, self._run, pixels)

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Return the outputs for images that the file takes at once."""
        with torch.inference_mode():
            found = self._module(torch.from_numpy(pixels))
        return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]
