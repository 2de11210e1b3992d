"""Weights from a file or from a supplier's page: read without pickle, fitted strictly, never loaded by luck."""

from __future__ import annotations

import hashlib
import pickle
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from bakeoff.errors import BakeoffError, DataError, ResourceError, WeightsMismatch, nearest
from bakeoff.models.groups import within
from bakeoff.models.head import first_line
from bakeoff.models.spec import Card

State = dict[str, Tensor]
Adapt = Callable[[State], State]  # resizes position embeddings to the network's input size

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net", "weights")
PREFIX = re.compile(r"(?:module|model|backbone|encoder|net|network|body|trunk|_orig_mod)\.")
HEADS = ("fc", "head", "heads", "classifier", "head_dist", "last_linear")  # usual names of a head in a file
FORMATS = (".safetensors", ".pth", ".pt")
OPTIONAL = "num_batches_tracked"  # a counter that old files lack and that no result depends on


def load_file(
    body: nn.Module, path: str | Path, head: Sequence[str], adapt: Adapt | None = None, rename: Adapt | None = None
) -> Card:
    """Load a weights file into `body`; the modules named by `head` are skipped where the file's head does not fit.

    Keys are matched by name, less a usual prefix ("module.", "model.", "backbone.", ...), once `rename` has been over
    them.  Returns a card that names the file, its hash and what was loaded.  Raises DataError for a file that cannot
    be read, WeightsMismatch when a tensor outside the head is missing, has another shape, or is unknown to the network.
    """
    path = Path(path)
    state, told = read(path)
    note = fit(body, state if rename is None else rename(state), head, str(path), adapt)
    return Card(licence(told), f"{path.name} (sha256 {file_hash(path)})", told.get("url"), note)


def licence(metadata: Mapping[str, str]) -> str | None:
    """Return the licence that a file's metadata state."""
    return metadata.get("license") or metadata.get("licence")


def metadata(path: Path) -> dict[str, str]:
    """Return a .safetensors file's own statements without reading its tensors; {} for other and for damaged files."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as stored:
            return stored.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def read(path: Path) -> tuple[State, dict[str, str]]:
    """Return the tensors of a .safetensors, .pth or .pt file, and safetensors' metadata; no pickled code is run."""
    if not path.is_file():
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, ("none", "pretrained", *beside))
        raise DataError(f"{path}: there is no such weights file{hint}")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path), {})
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as weights: {error}; is the download complete?") from error


def fit(body: nn.Module, state: State, head: Sequence[str], source: str, adapt: Adapt | None = None) -> str:
    """Load a state dict by name and return a sentence about what was loaded; raises WeightsMismatch (see load_file)."""
    own = body.state_dict()
    state, outside = strip(state, own)
    backbone = {name for name in own if not within(name, head)}
    if adapt is not None and backbone <= {*state, *(n for n in own if n.endswith(OPTIONAL))}:
        state = adapt(dict(state))
    _check(own, state, head, source)
    takes_head = all(name in state and state[name].shape == own[name].shape for name in own if within(name, head))
    taken = {name: value for name, value in state.items() if name in own and (takes_head or not within(name, head))}
    body.load_state_dict(taken, strict=False)
    left = len(state) - len(taken) + outside
    fate = ", the head too" if takes_head else ", the head starts at random"
    return f"{len(taken)} tensors loaded{fate if head else ''}" + (
        f"; {left} tensors of the file left out" if left else ""
    )


def strip(state: State, own: State) -> tuple[State, int]:
    """Remove the prefix under which most names are the network's own; returns how many tensors lie outside of it."""
    prefixes = {""}
    for name in state:
        end = 0
        while found := PREFIX.match(name, end):
            end = found.end()
            prefixes.add(name[:end])
    hits = {p: sum(n.removeprefix(p) in own for n in state if n.startswith(p)) for p in prefixes}
    best = max(sorted(prefixes, key=len), key=lambda prefix: hits[prefix])
    inside = {name.removeprefix(best): value for name, value in state.items() if name.startswith(best)}
    return inside, len(state) - len(inside)


def _check(own: State, state: State, head: Sequence[str], source: str) -> None:
    """Raise WeightsMismatch unless every tensor outside the head is there with its shape, and none is unknown."""
    needed = [name for name in own if not within(name, head)]
    missing = [name for name in needed if name not in state and not name.endswith(OPTIONAL)]
    other = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in needed
        if name in state and state[name].shape != own[name].shape
    ]
    unknown = [name for name in state if name not in own and not within(name, (*head, *HEADS))]
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in (
            (missing, "of the network's tensors are not in the file"),
            (other, "have another shape"),
            (unknown, "of the file's tensors are unknown to the network"),
        )
        if names
    ]
    if parts:
        raise WeightsMismatch(f"{source}: does not fit the network: {'; '.join(parts)}. {_advice(own, state, missing)}")


def _advice(own: State, state: State, missing: list[str]) -> str:
    """Say what to do about weights that do not fit."""
    if missing and sorted(tuple(v.shape) for v in own.values()) == sorted(tuple(v.shape) for v in state.values()):
        return "All shapes agree: it is probably this network under another supplier's names; use that supplier's"
    if len(missing) < len(own) / 2:
        return "It seems to be a part or a variant of this network: use the architecture and options it was made with"
    return "Use the architecture it was made for (bakeoff models lists them)"


def file_hash(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reach(url: str, model: str, page: str) -> None:
    """Ask for the head of a page, for 5 seconds at most; raises ResourceError when nothing answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()  # somebody answered; what is wrong with the page the download itself will say
    except OSError as error:
        raise unavailable(model, page, getattr(error, "reason", error)) from error


def unavailable(model: str, page: str, reason: object) -> ResourceError:
    """Return the error for published weights that cannot be had, with the two ways out."""
    return ResourceError(
        f"{model}: the pretrained weights cannot be fetched ({reason}). Download them from {page} where there is a "
        'connection and give the file, weights = "path/to/file"; or start at random with weights = "none"'
    )


@contextmanager
def fetching(
    model: str, page: str, repository: str | None, files: Sequence[str], revision: str | None = None
) -> Iterator[None]:
    """Around a library's own loading: use the cache without asking the network, or say soon that it is down.

    `files` are the names that the weights may have in the hub's `repository`; without one they come from `page`.
    Raises ResourceError when they cannot be had, WeightsMismatch when torch finds that they do not fit.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = (try_to_load_from_cache(repository, file, revision=revision) for file in files) if repository else ()
    cached, before = any(isinstance(path, str) for path in found), constants.HF_HUB_OFFLINE
    if not cached and before and repository:
        raise unavailable(model, page, "HF_HUB_OFFLINE is set and they are not in the cache")
    if not cached:
        reach(f"{constants.ENDPOINT}/{repository}" if repository else page, model, page)
    constants.HF_HUB_OFFLINE = cached or before
    try:
        yield
    except BakeoffError:
        raise
    except RuntimeError as error:  # torch's word for tensors that do not fit
        raise WeightsMismatch(f"{model}: its weights do not fit this network and its options: {error}") from error
    except Exception as error:  # the hub's clients have many kinds of connection errors
        raise unavailable(model, page, first_line(error)) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def published_state(entry: Any, model: str) -> State:
    """Return the tensors of one of torchvision's weights entries, from its cache where they are.

    Raises ResourceError when they cannot be had.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(entry.url).path).name
    if not cached.is_file():
        reach(entry.url, model, entry.url)
    try:
        state: State = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise unavailable(model, entry.url, first_line(error)) from error
    return state


def in_order(state: State, names: Sequence[str], own: State) -> State | None:
    """Rename a file's tensors to a network's, the first to the first, when `names` and all shapes agree; else None.

    `names` is the order of the file's tensors in the network that they come from: a file need not keep it.  The file
    may go on after the last tensor of `own`, with the head of what it was made for.
    """
    if set(state) != set(names) or len(names) < len(own):
        return None
    pairs = list(zip(names, own, strict=False))
    fits = all(state[theirs].shape == own[ours].shape for theirs, ours in pairs)
    return {ours: state[theirs] for theirs, ours in pairs} if fits else None


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Read tensors and metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(error) from error


def _read_torch(path: Path) -> State:
    """Read a torch file, and open the usual wrappers around its state dict."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: holds more than tensors, and bakeoff never runs pickled code; "
            "save its state_dict() alone (torch.save or safetensors) and give that file"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not state:
        raise DataError(f"{path}: holds no named tensors; expected a state dict, found {type(content).__name__}")
    return state
