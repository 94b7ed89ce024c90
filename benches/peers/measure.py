"""Runs one command as a process tree of its own and writes what it cost, as JSON.

    python3 -I -S measure.py RESULT LOG COMMAND...

A program of its own, and a small one: the kernel counts the memory of whoever starts a process as that process's
first peak, so the starter's size (about 9 MiB) is the floor of every peak printed here.
"""

import json
import os
import signal
import sys
import time


def main():
    result, log, *argv = sys.argv[1:]
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    redirect = [(os.POSIX_SPAWN_DUP2, null_fd, 0), (os.POSIX_SPAWN_DUP2, log_fd, 1), (os.POSIX_SPAWN_DUP2, log_fd, 2)]
    start = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=redirect, setpgroup=0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.killpg(pid, signal.SIGTERM))
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    cost = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        # Of the command and of every descendant that was waited for.
        "cpu": usage.ru_utime + usage.ru_stime,
        # The largest single process among them, in KiB on Linux.
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump(cost, file)


main()
