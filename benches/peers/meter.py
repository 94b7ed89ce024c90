"""Measures commands: one run, or several contenders in turn."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MEASURE = Path(__file__).with_name("measure.py")

#: What must not leak from the caller's session into a measured program.
NOT_INHERITED = ("SSH_AUTH_SOCK", "XVAULT_STORE", "XVAULT_IDENTITY", "XVAULT_PASSWORD", "RUST_LOG")


class Failed(Exception):
    """A program that was to be measured did not do its work."""


@dataclass(frozen=True)
class Cost:
    """One run: seconds of wall clock and CPU, bytes of memory at the peak and of output."""

    wall: float
    cpu: float
    peak_bytes: int
    output_bytes: int
    #: CPU seconds of the SSH server, where there is one.
    server_cpu: float | None


@dataclass(frozen=True)
class Row:
    """One contender's runs in a case."""

    name: str
    costs: tuple

    def median(self, field):
        """The median over the runs; `None` where the field has no value."""
        values = [getattr(cost, field) for cost in self.costs]
        return None if None in values else statistics.median(values)

    def best(self, field):
        """The smallest value over the runs."""
        return min(getattr(cost, field) for cost in self.costs)

    def worst(self, field):
        """The largest value over the runs."""
        return max(getattr(cost, field) for cost in self.costs)


def say(text):
    """Progress, for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def run(argv, directory, env=None):
    """Runs `argv` once; its log and its result stay in `directory`. The answer is the dictionary of measure.py."""
    result, log = directory / "cost.json", directory / "log"
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environment |= {"LC_ALL": "C.UTF-8", **(env or {})}
    command = [sys.executable, "-I", "-S", str(MEASURE), str(result), str(log), *map(str, argv)]
    process = subprocess.Popen(command, env=environment)
    try:
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    cost = json.loads(result.read_text()) if result.exists() else {"exit_code": None}
    if cost["exit_code"] != 0:
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise Failed(f"{argv[0]} ended with {cost['exit_code']}: {' '.join(map(str, argv))}\n{tail}")
    return cost


def measure(contender, place, server=None):
    """Prepares, runs and cleans up one run of `contender`; only the command itself is timed."""
    place.mkdir(parents=True)
    try:
        contender.prepare(place)
        before = server.cpu_seconds() if server else None
        cost = run(contender.command(place), place, contender.env(place))
        after = server.cpu_seconds() if server else None
        return Cost(
            wall=cost["wall"],
            cpu=cost["cpu"],
            peak_bytes=cost["peak_bytes"],
            output_bytes=contender.output_bytes(place),
            server_cpu=None if server is None else after - before,
        )
    finally:
        contender.clean(place)


def interleave(contenders, place, runs, server=None):
    """A B C, A B C, …: so that a slow minute of the machine hits all alike. One row per contender."""
    costs = {contender.name: [] for contender in contenders}
    for number in range(runs):
        for contender in contenders:
            cost = measure(contender, place / f"run-{number}", server)
            costs[contender.name].append(cost)
            say(f"  {number + 1}/{runs} {contender.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s")
    return [Row(contender.name, tuple(costs[contender.name])) for contender in contenders]
