"""A trained network as an ONNX file that says of itself how it is used."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bakeoff.errors import BakeoffError, Refused, UsageError
from bakeoff.export.graph import BY_OBJECTS, Graph, example, graph_of, interface_of, quiet, reason
from bakeoff.models.trained import Trained
from bakeoff.predict.interface import INPUT, OUTPUTS, Interface
from bakeoff.predict.onnx_model import OnnxPredictor

TRACED_OPSET = 17  # the last one that the tracing exporter knows in full
ODD = 3  # images, a number that no example had: does the file take it?
DESCRIPTION = (
    "{input}: uint8 RGB images (batch, {size}, {size}, 3), brought to that size by '{resize}'; made by bakeoff"
)


def write_onnx(model: Trained, content: dict[str, Any], pixels: NDArray[np.uint8], path: Path) -> Interface:
    """Write a model as an ONNX file; `content` is that of its model.json, `pixels` images like those it is for.

    The file takes any number of images where the network allows it; else one at a time, as all that find objects do.
    Raises UsageError without the extra, Refused for a network that the exporter cannot follow.
    """
    require()
    graph = graph_of(model)
    if model.task in BY_OBJECTS:
        _of_objects(graph, pixels, path)
        return describe(path, interface_of(model, content, 1))
    try:
        _exported(graph, pixels, path, dynamic=True)
        free = describe(path, interface_of(model, content, None))
        if _takes(path, pixels):
            return free
    except Refused:
        pass  # its shapes depend on the number of images
    _exported(graph, pixels, path, dynamic=False)
    return describe(path, interface_of(model, content, 1))


def describe(path: Path, interface: Interface) -> Interface:
    """Write the interface into a file, and take out what exporters note of the machine: paths in stack traces."""
    import onnx

    proto = onnx.load(path)
    proto.producer_name = "bakeoff"
    proto.doc_string = DESCRIPTION.format(input=INPUT, size=interface.size, resize=interface.resize)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, interface.to_metadata())
    for graph in _graphs(proto):
        _clear(graph)
        for node in graph.node:
            _clear(node)
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            _clear(value)
    onnx.save(proto, path)
    return interface


def require() -> None:
    """Raise UsageError when the packages that write and run ONNX files are not there."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX files need {' and '.join(missing)}: pip install 'bakeoff[export]'")


def _exported(graph: Graph, pixels: NDArray[np.uint8], path: Path, dynamic: bool) -> None:
    """Use the current exporter, which follows the network's Python code."""
    shapes: Any = ({0: torch.export.Dim("batch")},) if dynamic else None
    given = (example(pixels, 2 if dynamic else 1),)
    names = list(OUTPUTS[graph.task])
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                graph,
                given,
                path,
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
                external_data=False,
            )
    except BakeoffError:
        raise
    except Exception as error:  # the exporter's errors have many classes
        raise Refused(f"this network cannot be exported to ONNX: {reason(error)}") from error


def _of_objects(graph: Graph, pixels: NDArray[np.uint8], path: Path) -> None:
    """Trace a network that finds objects; where the older exporter lacks an operation, the current one may have it."""
    try:
        _traced(graph, pixels, path)
    except Refused as first:
        try:
            _exported(graph, pixels, path, dynamic=False)
        except Refused:
            raise first from None


def _traced(graph: Graph, pixels: NDArray[np.uint8], path: Path) -> None:
    """Use the tracing exporter: the current one cannot follow how many objects torchvision's heads keep."""
    names = list(OUTPUTS[graph.task])
    axes = {name: {0: "objects"} for name in names}
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                graph,
                (example(pixels, 1),),
                path,
                input_names=[INPUT],
                output_names=names,
                dynamic_axes=axes,
                dynamo=False,
                opset_version=TRACED_OPSET,
            )
    except Exception as error:
        raise Refused(f"this network cannot be exported to ONNX: {reason(error)}") from error


def _takes(path: Path, pixels: NDArray[np.uint8]) -> bool:
    """Say whether a file runs on a number of images that it was not made with."""
    try:
        return len(OnnxPredictor(path, 1)(np.repeat(pixels[:1], ODD, axis=0))) == ODD
    except BakeoffError:
        return False


def _graphs(proto: Any) -> list[Any]:
    """Return the main graph, those inside its nodes, and the functions."""
    found, waiting = [], [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        if hasattr(graph, "initializer"):
            found.append(graph)
        for node in graph.node:
            _clear(node)
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found


def _clear(part: Any) -> None:
    """Take notes off a part of the file."""
    part.doc_string = ""
    del part.metadata_props[:]
