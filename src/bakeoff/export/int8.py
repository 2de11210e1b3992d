"""A float ONNX file -> one of 8-bit integers, by ONNX Runtime's static quantisation on training images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bakeoff.errors import Refused
from bakeoff.export.graph import quiet, reason
from bakeoff.export.onnx_file import describe
from bakeoff.predict.interface import INPUT, Interface

CALIBRATION = 128  # training images that show how large the values between the layers become
LAYERS = ["Conv", "Gemm", "MatMul"]  # the costly ones; what lies between stays in float32


class _Reader:
    """Gives images to ONNX Runtime's calibration, one at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._images: Iterator[NDArray[np.uint8]] = iter(pixels)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next input, None after the last."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def quantise(source: Path, target: Path, interface: Interface, pixels: NDArray[np.uint8]) -> None:
    """Write `source` with 8-bit weights (a scale per channel) and activations, calibrated with `pixels` (n, S, S, 3).

    Layers are wrapped in QuantizeLinear and DequantizeLinear (QDQ), which any runtime understands.  Raises Refused for
    a graph that cannot be quantised.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = target.with_suffix(".ready.onnx")
    try:
        with quiet():
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(target),
                _Reader(pixels),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=LAYERS,
                per_channel=True,
                reduce_range=True,  # 7 bits of weights: with 8, processors without VNNI overflow
                extra_options={"CalibMovingAverage": True},  # so that one odd image does not stretch the scale
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # the library has no class of its own
        raise Refused(f"this network cannot be quantised to 8 bits: {reason(error)}") from error
    finally:
        ready.unlink(missing_ok=True)
    describe(target, interface)
