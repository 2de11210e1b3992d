"""A trained model on disk: model.safetensors beside model.json, never a pickle."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from bakeoff.data.dataset import TaskName
from bakeoff.data.decode import Resize
from bakeoff.errors import DataError
from bakeoff.files import read_json, replacing, write_json
from bakeoff.models import build, python_file, resolve
from bakeoff.models.spec import Card, ModelSpec, Network
from bakeoff.models.weights import file_hash

FORMAT, SCHEMA_VERSION = "bakeoff model", 1
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Trained:
    """A network and what is needed to use it.

    `classes` is the canonical label map, `size` the input side in pixels, `resize` how an image is brought to it, and
    `info` (JSON-able) where it comes from: study, data fingerprint, seed, metrics.
    """

    network: Network
    spec: ModelSpec
    task: TaskName
    classes: tuple[str, ...]
    size: int
    resize: Resize
    info: Mapping[str, Any] = field(default_factory=dict)


def save(folder: Path, trained: Trained) -> Path:
    """Write the weights and their description by rename, weights first; returns the path of model.safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights, network = folder / WEIGHTS, trained.network
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    with replacing(weights) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # its only word for a failed write
            raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error
        digest = file_hash(temporary)
    spec = resolve(trained.spec, trained.task).model_copy(update={"size": trained.size})
    write_json(
        folder / CARD,
        {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "task": trained.task,
            "classes": list(trained.classes),
            "spec": spec.model_dump(mode="json"),
            "source_sha256": python_file.source_hash(spec.arch) if spec.source == python_file.NAME else None,
            "size": trained.size,
            "resize": trained.resize,
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
            "card": vars(network.card),
            "info": dict(trained.info),
            "weights_sha256": digest,
        },
    )
    return weights


def load(path: str | Path) -> Trained:
    """Load a model from its folder or from either of its two files, without any network; the model is in eval mode.

    Raises DataError when a file is missing, damaged, or not what the description says.
    """
    weights, description = _files(Path(path))
    content = _described(description)
    if file_hash(weights) != content["weights_sha256"]:
        raise DataError(
            f"{weights}: damaged or changed (its sha256 is not the one in {description.name}); copy both files again"
        )
    try:
        trained = _empty(content, description)
        _fill(trained.network, weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{description}: is not a complete description of a model: {error}") from error
    trained.network.eval()
    return trained


def weights_hash(network: nn.Module) -> str:
    """Return the sha256 (hex) over all parameters and persistent buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    """Return the raw bytes of a tensor's values in row-major order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _files(path: Path) -> tuple[Path, Path]:
    """Return weights and description for a folder or either file."""
    base = path / WEIGHTS if path.is_dir() else path
    weights, description = base.with_suffix(".safetensors"), base.with_suffix(".json")
    for file in (weights, description):
        if not file.is_file():
            raise DataError(f"{file}: is missing; a trained model is {WEIGHTS} and {CARD} side by side in one folder")
    return weights, description


def _described(description: Path) -> dict[str, Any]:
    """Read model.json and check that it is ours."""
    content = read_json(description)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{description}: is not the description of a bakeoff model")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{description}: has schema version {content.get('schema_version')}, this bakeoff reads {SCHEMA_VERSION}"
        )
    return content


def _empty(content: dict[str, Any], description: Path) -> Trained:
    """Build the network with random weights, whatever it started from, and its own normalisation."""
    spec = ModelSpec.model_validate(content["spec"])
    if spec.source == python_file.NAME and python_file.source_hash(spec.arch) != content["source_sha256"]:
        raise DataError(f"{spec.arch}: the file has changed since {description} was written; bring the old one back")
    if content["resize"] not in get_args(Resize):
        raise DataError(f"{description}: resize {content['resize']!r} is none of {', '.join(get_args(Resize))}")
    classes, size = tuple(content["classes"]), int(content["size"])
    with torch.random.fork_rng(devices=[]):
        network = build(spec.model_copy(update={"weights": "none"}), len(classes), size, content["task"])
    network.mean.copy_(torch.tensor(content["mean"]).view(1, 3, 1, 1))
    network.std.copy_(torch.tensor(content["std"]).view(1, 3, 1, 1))
    network.card = Card(**content["card"])
    return Trained(network, spec, content["task"], classes, size, content["resize"], content["info"])


def _fill(network: Network, weights: Path) -> None:
    """Load the stored tensors; names and shapes must be exactly the network's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{weights}: does not fit the network of its description: {error}") from error
