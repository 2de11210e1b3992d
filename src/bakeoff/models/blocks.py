"""What the small networks are made of."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Body = TypeVar("Body", bound=nn.Module)


def conv(channels: int, width: int, stride: int = 1, kernel: int = 3, active: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, unless told otherwise, ReLU."""
    layer = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width), *([nn.ReLU(inplace=True)] if active else []))


def he_weights(body: Body) -> Body:
    """Draw convolution weights for ReLU (He et al. 2015), and return the body; biases start at zero."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return body
