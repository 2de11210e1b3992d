"""What the small networks are made of."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

Body = TypeVar("Body", bound=nn.Module)


def conv(channels: int, width: int, stride: int = 1, kernel: int = 3, active: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, unless told otherwise, ReLU."""
    layer = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width), *([nn.ReLU(inplace=True)] if active else []))


class Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to the input (He et al. 2016, basic block)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Set the widths; a 1 x 1 convolution carries the input over where its shape changes."""
        super().__init__()
        self.first, self.second = conv(channels, width, stride), conv(width, width, active=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        """Add and rectify."""
        return F.relu(self.second(self.first(features)) + self.shortcut(features))


def he_weights(body: Body) -> Body:
    """Draw convolution weights for ReLU (He et al. 2015), and return the body; biases start at zero."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return body
