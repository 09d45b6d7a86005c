"""What is asked of a benchmark and what it answers. Travels between processes as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is done. `slots`: runs that each worker executes at a time."""

    runs: int
    steps: int = 1
    slots: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One workload to be measured on one store. `url` is that of a PostgreSQL server or of a SQLite file to make."""

    workload: str
    store: str
    load: Load
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the machine does without Kagzi: one connection of the same driver, the same durability, rows like those of
    steps. `rows_per_s` are inserted a hundred to a commit. `idle_commit_s` is what a commit takes after a pause, as
    everything has to wake up first: the median."""

    commits_per_s: float
    rows_per_s: float
    tasks_per_s: float
    idle_commit_s: float

    def seconds(self, *, commits: float = 0, rows: float = 0, idle_commits: float = 0) -> float:
        """How long so many single commits, one after the other, so many rows in hundreds, and so many commits after
        pauses would take."""
        return commits / self.commits_per_s + rows / self.rows_per_s + idle_commits * self.idle_commit_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, the one that is aimed at, and the one that the bare machine would reach (`bare`: doing what)."""

    name: str
    value: float
    unit: str
    more_is_better: bool
    target: float | None = None
    limit: float | None = None
    bare: str = ""

    @property
    def share(self) -> float | None:
        """The share of the machine's own limit that is reached; 1 would be as fast as bare writes."""
        if self.limit is None or not self.value or not self.limit:
            return None
        return self.value / self.limit if self.more_is_better else self.limit / self.value

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached, None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.more_is_better else self.value <= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was spent while measuring; None where this machine can't tell.

    `peak_mib` is of the largest process that was measured. `written_bytes`: PostgreSQL's log; for SQLite all that the
    processes wrote, log and checkpoints.
    """

    client_cpu_s: float
    worker_cpu_s: float
    database_cpu_s: float | None
    peak_mib: float | None
    transactions: int | None
    written_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a workload found; its first figure is the one that it is about. The costs are those of `runs` runs."""

    figures: list[Figure]
    costs: Costs
    runs: int
    notes: list[str] = field(default_factory=list)

    def is_better_than(self, other: Answer) -> bool:
        """Whether the first figure is better."""
        mine, its = self.figures[0], other.figures[0]
        return mine.value > its.value if mine.more_is_better else mine.value < its.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A workload's answer with what it answers to, and the limits of the machine just before."""

    order: Order
    limits: Limits
    answer: Answer
