"""The nine strongest activations of a channel over many images, with what it saw of them (Zeiler & Fergus, figure 2).

A survey: it looks at all images at once, where explainers take one after the other.  Images go through the network in
batches, and of every channel only the values, images and places of the best nine are kept; those images are read a
second time for their pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bakeoff.data.decode import decode_resized
from bakeoff.data.load import to_float
from bakeoff.errors import UnreadableImage, UsageError
from bakeoff.explain.chain import Step, chain
from bakeoff.explain.deconvnet import Activation, cut, reconstruction
from bakeoff.explain.explainer import Options, at_rest
from bakeoff.explain.explaining import Explained
from bakeoff.explain.layers import as_grid, channel_of, find_name, output_of
from bakeoff.explain.paint import around_grey
from bakeoff.explain.receptive_field import Field, receptive_field
from bakeoff.explain.survey import Seen, Survey
from bakeoff.models.trained import Trained
from bakeoff.tasks.inference import choose_device

BEST = 9  # images of a channel
CHANNELS = 6  # those with the strongest activations, where none is named


@dataclass
class Ranking:
    """The best images of every channel so far: values, image numbers and flat places, each (rank, channel), falling."""

    values: Tensor
    images: Tensor
    places: Tensor

    def add(self, grids: Tensor, first: int) -> Ranking:
        """Return the ranking with maps (B, C, h, w) of the images from number `first` on; of equals the first stays."""
        values, places = grids.flatten(2).max(dim=2)
        numbers = torch.arange(first, first + len(grids))[:, None].expand(-1, grids.shape[1])
        whole = torch.cat([self.values, values.float().cpu()])
        order = whole.argsort(dim=0, descending=True, stable=True)[:BEST]
        pairs = ((self.images, numbers), (self.places, places.cpu()))
        return Ranking(whole.gather(0, order), *(torch.cat(pair).gather(0, order) for pair in pairs))


@dataclass
class Surveying:
    """A model whose layer is looked at; the layer is `options.layer`, else the last in front of the head.

    Raises UsageError for a layer, a channel or a device that there is not.
    """

    model: Trained
    options: Options
    layer: str = field(init=False)
    shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Bring the network to the device and find the layer."""
        network, size = self.model.network.to(choose_device(self.options.device)), self.model.size
        grey = torch.full((1, 3, size, size), 0.5, device=network.mean.device)
        with at_rest(network), torch.no_grad():
            self.layer = find_name(network, grey, self.options.layer)
            (grid,) = self._grids(grey)
        self.shape = (grid.shape[0], grid.shape[1], grid.shape[2])
        if self.options.channel is not None:
            channel_of(self.options.channel, grid, self.layer)

    def over(self, paths: Iterable[Path]) -> tuple[Survey | None, list[Explained]]:
        """Look at image files; return what was found, None without images, and an entry for each that is unreadable."""
        with at_rest(self.model.network), torch.no_grad():
            ranking, read, unread = self._ranked(paths)
            if not read:
                return None, unread
            wanted = self.options.channel
            chosen = ranking.values[0].argsort(descending=True, stable=True)[:CHANNELS].tolist()
            best = {channel: self._best(ranking, channel) for channel in (chosen if wanted is None else [wanted])}
            found, note = self._seen(best, read)
        return Survey(self.layer, self.shape, len(read), found, note), unread

    def _grids(self, images: Tensor) -> Tensor:
        """Return the layer's maps (B, C, h, w) of images."""
        output = output_of(self.model.network, self.layer, images)
        grids = [as_grid(output[place : place + 1]) for place in range(len(images))]
        return torch.stack([grid for grid in grids if grid is not None])

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """Read an image as the network sees it."""
        return decode_resized(path, self.model.size, self.model.resize)[0]

    def _image(self, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Bring images to the device."""
        return to_float(np.stack(pixels)).to(self.model.network.mean.device)

    def _ranked(self, paths: Iterable[Path]) -> tuple[Ranking, list[Path], list[Explained]]:
        """Send all images through the network; return the ranking, the files in it, and the others."""
        nothing = torch.zeros(0, self.shape[0])
        ranking = Ranking(nothing, nothing.long(), nothing.long())
        read: list[Path] = []
        unread: list[Explained] = []
        waiting: list[NDArray[np.uint8]] = []
        for path in paths:
            try:
                waiting.append(self._read(path))
                read.append(path)
            except UnreadableImage as error:
                unread.append(Explained(str(path), error=error.reason))
            if len(waiting) == self.options.batch:
                ranking = ranking.add(self._grids(self._image(waiting)), len(read) - len(waiting))
                waiting = []
        if waiting:
            ranking = ranking.add(self._grids(self._image(waiting)), len(read) - len(waiting))
        return ranking, read, unread

    def _best(self, ranking: Ranking, channel: int) -> list[tuple[int, Activation]]:
        """Return the images, by number, in which a channel is active most, with its activations there."""
        rows = zip(
            *(part[:, channel].tolist() for part in (ranking.images, ranking.places, ranking.values)), strict=True
        )
        width = self.shape[2]
        return [(image, Activation(channel, divmod(place, width), value)) for image, place, value in rows if value > 0]

    def _seen(
        self, best: Mapping[int, list[tuple[int, Activation]]], read: Sequence[Path]
    ) -> tuple[dict[int, tuple[Seen, ...]], str]:
        """Read the images again that are among the best, each once; return what their places see."""
        fields: dict[tuple[int, int], Field] = {}
        made: dict[tuple[int, int], Seen] = {}  # by image and channel
        note = ""
        for number in sorted({number for ranked in best.values() for number, _ in ranked}):
            pixels = self._read(read[number])
            image = self._image([pixels])
            steps, note = self._way_back(image)
            for activation in [one for ranked in best.values() for at, one in ranked if at == number]:
                if activation.place not in fields:
                    fields[activation.place] = receptive_field(self.model.network, self.layer, activation.place, image)
                box = fields[activation.place]
                pattern = reconstruction(self.model.network, steps, activation) if steps else None
                shown = None if pattern is None else around_grey(cut(pattern, box))
                made[number, activation.channel] = Seen(str(read[number]), activation, box, cut(pixels, box), shown)
        return {channel: tuple(made[number, channel] for number, _ in ranked) for channel, ranked in best.items()}, note

    def _way_back(self, image: Tensor) -> tuple[list[Step], str]:
        """Return the deconvnet's steps from the layer to an image, or none and why."""
        found = chain(self.model.network, image)
        if found.why:
            return [], found.why
        try:
            return found.up_to(self.layer), ""
        except UsageError as error:
            return [], str(error)
