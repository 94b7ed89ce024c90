"""Outcomes as Markdown, to be pasted into benches/RESULTS.md."""

import os
import platform
import re
import subprocess
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30

HEAD = (
    "| program | runs | wall s, median (min) | CPU s | server CPU s | peak MiB | output MB | xvault's wall is |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)


def markdown(outcome, name):
    """One case: its table, its targets, its notes."""
    lines = [f"### {name}: {outcome.title}", ""]
    if outcome.rows:
        lines += [*HEAD, *(table_row(row, outcome.rows) for row in outcome.rows), ""]
    for verdict in outcome.verdicts:
        lines.append(f"- {'met' if verdict.met else '**missed**'}: {verdict.text}; measured {verdict.measured}")
    lines += [f"- {note}" for note in outcome.notes]
    return "\n".join(lines) + "\n"


def table_row(row, rows):
    """The numbers of one contender, and the ratio of xvault's to them."""
    server = row.median("server_cpu")
    cells = (
        row.name,
        len(row.costs),
        f"{row.median('wall'):.2f} ({row.best('wall'):.2f})",
        f"{row.median('cpu'):.2f}",
        "" if server is None else f"{server:.2f}",
        f"{row.worst('peak_bytes') / MIB:.1f}",
        f"{row.median('output_bytes') / 1e6:.1f}",
        ratio(row, rows),
    )
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def ratio(row, rows):
    """`0.82 × (0.80 ×)`: of medians and of minima; nothing where xvault itself is meant, or other work was done."""
    ours = rows[0]
    if ours.name != "xvault" or row is ours or "only" in row.name:
        return ""
    return f"{ours.median('wall') / row.median('wall'):.2f} × ({ours.best('wall') / row.best('wall'):.2f} ×)"


def preamble(command, date, xvault, in_memory, quick):
    """Who measured what, when, on what."""
    lines = [f"- date: {date}", f"- machine: {machine()}", f"- command: `{command}`"]
    lines.append(f"- versions: {versions(xvault)}")
    lines.append(f"- source and output lie {'in tmpfs' if in_memory else 'ON A DISK: times are those of the disk'}")
    lines.append(
        "- peak is the largest single process (floor 9 MiB); CPU is that of the whole process tree; a ratio below 1 "
        "means that xvault is faster, in parentheses that of the fastest runs"
    )
    if quick:
        lines.append("- **`--quick`: proves that everything runs; sizes are too small for the numbers to mean anything**")
    return "\n".join(lines) + "\n"


def machine():
    """Cores, processor, memory and system."""
    cpu = first(Path("/proc/cpuinfo"), "model name")
    memory = int(first(Path("/proc/meminfo"), "MemTotal").split()[0]) * 1024 / GIB
    system = first(Path("/etc/os-release"), "PRETTY_NAME", "=").strip('"')
    return f"{len(cores())} cores, {cpu}, {memory:.0f} GiB, {system}, Linux {platform.release().split('-')[0]}"


def cores():
    """The processors that this program may use."""
    return os.sched_getaffinity(0)


def first(file, key, separator=":"):
    """The value of the first `key` line of a file."""
    for line in file.read_text().splitlines():
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip()
    return "unknown"


def versions(xvault):
    """The version of each program."""
    commands = ([str(xvault), "--version"], ["ssh", "-V"], ["tar", "--version"], ["zstd", "--version"],
                ["age", "--version"], ["restic", "version"], ["borg", "--version"])
    return "; ".join(filter(None, map(version, commands)))


def version(argv):
    """`name version`, or nothing when the program is not there."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    number = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return f"{Path(argv[0]).name} {number.group()}" if number else ""
