"""What a person sees while a study runs: bars in a terminal, plain lines elsewhere, all on stderr.

Only validation values are shown: the test split speaks once, in the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

Mode = Literal["auto", "bars", "lines", "quiet"]

PAUSE = 30.0  # seconds between two plain lines about the same standing
SETTLED = 2.0  # seconds that a phase must have taken before it says anything about the rest
WARMING = 0.01  # share of the work that must be done before it says anything about the rest


@dataclass(frozen=True)
class Headline:
    """The metric that is followed: values of `percent` metrics lie in 0..1 and are shown times 100."""

    name: str = "accuracy"
    percent: bool = True
    higher_is_better: bool = True

    def show(self, value: float) -> str:
        """Return a value as people read it."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"


@dataclass
class Standing:
    """How far one running run is, as its facts told."""

    name: str  # until its first fact a run is called by its id
    started: float = field(default_factory=lambda: monotonic())
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    resumed: int = 0  # the step that an earlier call had reached
    speed: float | None = None
    value: float | None = None

    @property
    def share(self) -> float:
        """The part of the run that is done, 0..1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def inherited(self) -> float:
        """The part of the run that an earlier call did, 0..1."""
        return self.resumed / self.steps if self.steps else 0.0

    def hear(self, fact: dict[str, Any], headline: str) -> None:
        """Take a fact in."""
        for key in ("epochs", "step", "steps"):
            setattr(self, key, fact.get(key, getattr(self, key)))
        self.speed = fact.get("images_per_second", self.speed)
        match fact["kind"]:
            case "run":
                self.name, self.resumed = run_name(fact), self.step
            case "epoch":
                self.epoch = fact["epoch"] + 1
                self.value = fact.get("val", {}).get(headline, self.value)

    def detail(self, headline: Headline) -> str:
        """Return how far the run is, how fast, and how good."""
        parts = [f"epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}"] if self.epochs else ["preparing"]
        if self.speed:
            parts.append(f"{self.speed:,.0f} images/s")
        if self.value is not None:
            parts.append(f"{headline.name} {headline.show(self.value)}")
        return ", ".join(parts)


class Progress:
    """Shows a study: `tell` it every fact of every run, and, under the run id "", what concerns the whole study.

    mode "auto" draws bars when stderr is a terminal and writes plain lines otherwise; "quiet" shows nothing.
    """

    def __init__(self, headline: Headline = Headline(), mode: Mode = "auto", console: Console | None = None) -> None:
        """Draw nothing yet."""
        self.headline = headline
        self.total = self.finished = self.failed = 0
        self.best: tuple[float, str] | None = None  # validation value and run
        self._console = console or Console(stderr=True)
        self._mode = mode if mode != "auto" else ("bars" if _terminal(self._console) else "lines")
        self._running: dict[str, Standing] = {}
        self._bars: StudyBars | None = None
        self._worked = 0.0  # runs' worth of training that ended in this call
        self._began = self._spoke = monotonic()
        self._phase, self._count, self._counting = "images", (0, 0), monotonic()
        self._part = ""  # of the study, where it has several

    def __enter__(self) -> Progress:
        """Start to draw."""
        if self._mode == "bars":
            self._bars = StudyBars(self._console)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def tell(self, run: str, fact: dict[str, Any]) -> None:
        """Take a fact in and show what it changes; facts of kinds that nothing is known about change nothing."""
        if not run:
            self._study(fact)
        elif fact["kind"] in ("finished", "failed", "lost"):
            self._end(run, fact)
        else:
            self._hear(run, fact)
        if self._bars is not None:
            self._draw(self._bars)
        elif self._mode == "lines" and monotonic() - self._spoke >= PAUSE:
            running = (f"{run.name}: {run.detail(self.headline)}" for run in self._running.values())
            self._say("; ".join([self.summary(), *running]))

    def count(self, done: int, total: int) -> None:
        """Show how many of how many images are done; of 0 where that is not known before the end."""
        self.tell("", {"kind": "count", "done": done, "total": total})

    def summary(self) -> str:
        """Return the study's standing in a line: runs done, best so far, time left."""
        if not self.total:
            return self._counted()
        parts = [f"{self.finished + self.failed}/{self.total} run{'s' * (self.total > 1)} done"]
        parts[:0] = [self._part] if self._part else []
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.best is not None:
            parts.append(f"best so far {self.headline.show(self.best[0])} ({self.best[1]}, validation)")
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    def _counted(self) -> str:
        """Return how many images of a phase are done, and the time left or, of an unknown number, the speed."""
        done, total = self._count
        passed = monotonic() - self._counting
        if not total:
            return f"{self._phase} {done:,}, {done / passed:.1f} a second" if done and passed > 0 else self._phase
        text = f"{self._phase} {done:,}/{total:,}"
        known = WARMING * total <= done < total and passed >= SETTLED
        return f"{text}, about {duration(passed * (total - done) / done)} left" if known and done else text

    def seconds_left(self) -> float | None:
        """Estimate the time left from the training done in this call; None while too little is done."""
        running = self._running.values()
        done = self._worked + sum(run.share - run.inherited for run in running)
        rest = self.total - self.finished - self.failed - sum(run.share for run in running)
        if done < WARMING * (done + rest) or rest <= 0:
            return None
        return (monotonic() - self._began) * rest / done

    def _study(self, fact: dict[str, Any]) -> None:
        """Take in a fact about the whole study."""
        match fact["kind"]:
            case "phase":
                self._phase, self._count, self._counting = fact["name"], (0, 0), monotonic()
                self._say(fact["name"], aside=True)
            case "count":
                self._count = (fact["done"], fact["total"])
            case "finding" if fact["severity"] != "info":
                self._say(f"{fact['severity']}: {fact['sentence']}")
            case "planner" | "race" | "look":
                self._say(fact["sentence"])
            case "plan":
                self._plan(fact)

    def _plan(self, fact: dict[str, Any]) -> None:
        """Begin a part of the study (a rung of the race, a look, or the whole contest): its runs are counted anew."""
        self.total, self.finished, self._began = fact["runs"], fact["done"], monotonic()
        self.failed, self._worked, self._part = 0, 0.0, fact.get("name", "")
        self.best = None  # a trial's score would stand above the contest's
        where = f"{self._part}: " if self._part else ""
        if self.finished:
            many = f"{self.finished} of {self.total} runs are"
            self._say(f"{where}{many if self.total > 1 else 'the only run is'} done already")
        elif where:
            self._say(f"{where}{self.total} run{'s' * (self.total > 1)}", aside=True)

    def _hear(self, id: str, fact: dict[str, Any]) -> None:
        """Take a fact of a run in."""
        run = self._running.setdefault(id, Standing(id))
        run.hear(fact, self.headline.name)
        if fact["kind"] == "run":
            again = f", going on from step {run.resumed}" if run.resumed else ""
            self._say(f"{run.name}: started{again}", aside=True)
        if fact["kind"] == "gap":
            went = f"the gap opened after epoch {fact['taken'] + 1}; goes on from there, to epoch {fact['epochs']}"
            self._say(f"{run.name}: {went}", aside=True)
        if fact["kind"] == "epoch" and run.value is not None and self._leads(run.value):
            self.best = (run.value, run.name)

    def _leads(self, value: float) -> bool:
        """Say whether a value is the best so far."""
        if self.best is None:
            return True
        return value > self.best[0] if self.headline.higher_is_better else value < self.best[0]

    def _end(self, id: str, fact: dict[str, Any]) -> None:
        """Note the end of a run, or of a lost attempt at one."""
        run = self._running.pop(id, Standing(id))
        if fact["kind"] != "finished":
            self.failed += fact["kind"] == "failed"
            self._worked += run.share - run.inherited
            self._say(f"{run.name}: {fact['error']}")
            return
        self.finished += 1
        self._worked += 1 - run.inherited
        value = "" if run.value is None else f", validation {self.headline.name} {self.headline.show(run.value)}"
        self._say(f"{run.name}: done in {duration(monotonic() - run.started)}{value} [{self.summary()}]")

    def _say(self, line: str, aside: bool = False) -> None:
        """Write a line, above the bars where there are any; what is said aside the bars show anyway."""
        if self._mode == "quiet" or (aside and self._mode == "bars"):
            return
        self._spoke = monotonic()
        text = printable(" ".join(line.splitlines()))
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _draw(self, bars: StudyBars) -> None:
        """Bring the bars up to date."""
        running = self._running
        rows = {id: (run.name, run.share, run.detail(self.headline)) for id, run in running.items()}
        if not self.total:
            return bars.draw(rows, self._count, self.summary())
        done = self.finished + self.failed + sum(run.share for run in running.values())
        return bars.draw(rows, (done, self.total), self.summary())


class StudyBars:
    """One bar per running run, and one for the study."""

    def __init__(self, console: Console) -> None:
        """Start to draw; library output to stdout and stderr appears above the bars."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        self._bars = Bars(*columns, console=console, transient=True, refresh_per_second=4)
        self._study = self._bars.add_task("study", total=None, detail="")
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def draw(self, rows: dict[str, tuple[str, float, str]], study: tuple[float, float], summary: str) -> None:
        """Show one row (name, share 0..1, detail) for each running run, and the study's (done, total)."""
        for id in [id for id in self._tasks if id not in rows]:
            self._bars.remove_task(self._tasks.pop(id))
        for id, (name, share, detail) in rows.items():
            if id not in self._tasks:
                self._tasks[id] = self._bars.add_task("", total=1.0, detail="")
            name, detail = printable(name), printable(detail)
            self._bars.update(self._tasks[id], description=name, completed=share, detail=detail)
        self._bars.update(self._study, completed=study[0], total=study[1] or None, detail=printable(summary))

    def stop(self) -> None:
        """Remove the bars."""
        self._bars.stop()


def run_name(fact: dict[str, Any]) -> str:
    """Return what a run is called: its candidate and seed, its repeat and fold, its share of the training images.

    >>> run_name({"candidate": "cnn", "seed": 2}), run_name({"candidate": "cnn", "seed": 0, "repeat": 1, "fold": 3})
    ('cnn seed 2', 'cnn seed 0 repeat 1 fold 3')
    >>> run_name({"candidate": "cnn", "seed": 1000000001, "purpose": "trial"})
    'cnn trial'
    """
    purpose = fact.get("purpose", "contest")
    what = purpose if purpose in ("trial", "rung") else f"seed {fact['seed']}"  # these have seeds that nobody chose
    place = f" repeat {fact.get('repeat', 0)} fold {fact.get('fold', 0)}" if "fold" in fact else ""
    share = f" on {100 * fact['share']:g} %" if fact.get("share", 1) != 1 else ""
    return f"{fact['candidate']} {what}{'' if place == ' repeat 0 fold 0' else place}{share}"


def duration(seconds: float) -> str:
    """Return a time span in the units people use.

    >>> duration(41.6), duration(200), duration(7500)
    ('42 s', '3 min 20 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def printable(text: str) -> str:
    """Return a text without characters that steer a terminal, reverse its direction or cannot be encoded."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _terminal(console: Console) -> bool:
    """Say whether bars can be drawn: forced colours do not turn a file into a terminal."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal
