"""Features of the training images under a frozen backbone: computed once, kept on the disk while a stage reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.data.cache import reserve
from bakeoff.data.load import Batch, Feed, Ticket
from bakeoff.data.targets import Label
from bakeoff.errors import UsageError
from bakeoff.files import replacing
from bakeoff.models.features import Rest, cut
from bakeoff.models.spec import Network
from bakeoff.tasks.inference import Conditions

TRIED = 4  # training images on which the cut is checked


class Source(Protocol):
    """Where a stage's batches come from."""

    def epoch(self, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Return the batches of an epoch from step `start` on."""
        ...


@dataclass(frozen=True)
class Course:
    """What a stage trains: batches from `source` go through `learner`, the network or what stands behind its cut."""

    source: Source
    learner: nn.Module


class FrozenFeatures:
    """Gives the stages of a run that train the head alone the features of the images in the images' stead.

    Features are float32 in `folder`, one file per copy of the training images (see Order.copies; one file without
    augmentation): those of every image, computed in the order of the images in batches as large as in training.  So
    they are a function of the frozen weights and the feed alone, and a run that is cut reads or computes the same
    ones again.  What autocast gives in bfloat16 is kept exactly.
    """

    def __init__(self, feed: Feed, folder: Path, conditions: Conditions, candidate: str) -> None:
        """Take the feed of the run whose stages ask; `candidate` is for messages."""
        self.feed, self.folder, self.conditions, self.candidate = feed, folder, conditions, candidate
        self._course: Course | None = None

    def course(self, network: Network) -> Course | None:
        """Return what the present stage trains (apply_stage was called), or None when it trains more than the head.

        Raises UsageError, naming the candidate, when its network cannot be cut in front of its head, and
        ResourceError when the features do not fit on the disk.
        """
        head = set(network.groups[-1])
        if any(p.requires_grad and name not in head for name, p in network.body.named_parameters()):
            self.clear()
        elif self._course is None:
            rest, example = self._cut(network)
            self._course = Course(_Cached(self, network, rest, example, _key(network, self.feed)), rest)
        return self._course

    def clear(self) -> None:
        """Forget the features and remove their files: the backbone may learn from here on, or the run is over."""
        self._course = None
        for file in self.folder.glob("features-*"):
            file.unlink(missing_ok=True)

    def _cut(self, network: Network) -> tuple[Rest, Tensor]:
        """Return what stands behind the cut, checked on the first training images, and the features of one."""
        here = replace(self.feed, workers=0)  # too few images to start processes for
        batch = next(iter(here.batches([_tickets(here, 0)[:TRIED]])))
        images = batch.to(self.conditions.device, self.conditions.channels_last).images
        try:
            with self.conditions.autocast():
                rest = cut(network, images)
                return rest, rest.features(network, images[:1])
        except UsageError as error:
            raise UsageError(f"{self.candidate}: recipe.cache_features: {error}") from error


@dataclass(frozen=True)
class _Cached:
    """The batches of a feed with features instead of images."""

    owner: FrozenFeatures
    network: Network
    rest: Rest
    example: Tensor
    key: str

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on, on the CPU."""
        feed = self.owner.feed
        labels = torch.tensor([_index(feed, place) for place in range(len(feed.rows))])
        stored = self._copy(epoch % max(1, feed.copies))
        for tickets in feed.order.tickets(epoch)[start:]:
            places = [index for index, _ in tickets]
            yield Batch(torch.from_numpy(np.array(stored[places])).to(self.example.dtype), labels[places])

    def _copy(self, copy: int) -> NDArray[np.float32]:
        """Map the features of one copy of the images, after computing them where that is still to be done."""
        path = self.owner.folder / f"features-{self.key}-{copy}.npy"
        if not path.exists():
            self._compute(copy, path)
        stored: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return stored

    def _compute(self, copy: int, path: Path) -> None:
        """Run the frozen part over one copy of all images and store what it gives."""
        feed, conditions = self.owner.feed, self.owner.conditions
        tickets, size = _tickets(feed, copy), feed.batch_size
        count = len(tickets)
        whole = [tickets[place % count] for place in range(-(-count // size) * size)]  # full batches: equal rounding
        starts = range(0, len(whole), size)
        with replacing(path) as temporary:
            shape = (count, *self.example.shape[1:])
            stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            reserve(temporary)
            for at, batch in zip(starts, feed.batches([whole[at : at + size] for at in starts]), strict=True):
                images = batch.to(conditions.device, conditions.channels_last).images
                with conditions.autocast():
                    features = self.rest.features(self.network, images)
                stored[at : at + size] = features[: count - at].float().cpu().numpy()
            stored.flush()


def _tickets(feed: Feed, copy: int) -> list[Ticket]:
    """Return the ticket of every image in one copy, in the order of the images."""
    return [(index, feed.order.draws_of(copy, index)) for index in range(len(feed.rows))]


def _index(feed: Feed, place: int) -> int:
    """Return the class of the image at a place of the feed."""
    target = feed.targets[feed.labels[place]]
    if not isinstance(target, Label):
        raise UsageError("features are stored for classification alone; use recipe.cache_features = false")
    return target.index


def _key(network: Network, feed: Feed) -> str:
    """Return a hash of all that the features depend on: images, draws, and the weights that do not change meanwhile.

    Those that do are the parameters that learn and the buffers of modules in train mode, a batch norm in the head.
    """
    moving = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    learning = (module for module in network.modules() if module.training)
    moving |= {id(buffer) for module in learning for buffer in module.buffers(recurse=False)}
    digest = hashlib.sha256(repr((feed.augment, feed.seed, feed.copies, feed.batch_size)).encode())
    digest.update(feed.rows.tobytes())
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in moving:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
