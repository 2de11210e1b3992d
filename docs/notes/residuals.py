"""Plain networks beside their residual twins: how large the gradient is in every layer group, and what is learned."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from bakeoff.files import replacing
from bakeoff.store import RunFolder, StudyFolder
from bakeoff.train.diagnosis import inside, moments


def name_of(candidate: str) -> str:
    """Leave out where the weights come from: all start at random."""
    return candidate.partition("@")[0]


def draw_gradients(axes: plt.Axes, name: str, run: RunFolder, look: dict[str, str]) -> None:
    """Draw the gradient norm of every layer group in the first step, and print how it comes through."""
    groups, seen = moments([run.history()])
    found = inside(groups, seen)
    places = [place for place, value in enumerate(seen[0].gradient) if value]
    axes.semilogy([place + 1 for place in places], [seen[0].gradient[place] or 0.0 for place in places], **look)
    print(f"{name:9} gradient of the first layer group over the last one's: {found.begin:.1f} in the first step")


def draw_accuracy(axes: plt.Axes, name: str, run: RunFolder, look: dict[str, str]) -> None:
    """Draw the accuracy on validation images after every epoch."""
    epochs = [fact for fact in run.history() if fact["kind"] == "epoch"]
    values = [100 * fact["val"]["accuracy"] for fact in epochs]
    axes.plot([fact["epoch"] + 1 for fact in epochs], values, label=name, **look)
    print(f"{name:9} {values[-1]:.1f} % of the validation images right after {len(values)} epochs")


def main() -> None:
    """Draw both for every candidate of the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="a finished study with execution.diagnose = true")
    parser.add_argument("--out", type=Path, default=Path("docs/notes/pictures/residuals.png"))
    given = parser.parse_args()
    plt.style.use(Path(__file__).with_name("notes.mplstyle"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    folder = StudyFolder(given.study)
    for run in folder.planned():
        name = name_of(run.candidate)
        look = {"color": "C4" if "plain" in name else "C0", "linestyle": "-" if "34" in name else "--", "marker": "o"}
        draw_gradients(left, name, folder.run(run.id), look)
        draw_accuracy(right, name, folder.run(run.id), look)
    left.set(title="Gradient norm in the first step", xlabel="layer group, from stem to head", ylabel="gradient norm")
    right.set(title="What is learned", xlabel="epoch", ylabel="accuracy on validation images, %", ylim=(0, 102))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend(*right.get_legend_handles_labels(), loc="upper right")
    with replacing(given.out) as file:
        figure.savefig(file)


if __name__ == "__main__":
    main()
