"""The processes of a test, found by a mark in their environment, so that an orphan is found too."""

import os
import uuid

import psutil

from harness.deadline import eventually

VARIABLE = "PRUST_TEST_MARK"


def new_mark():
    """An environment entry that every descendant of a process started with it inherits."""
    return {VARIABLE: uuid.uuid4().hex}


def marked(mark):
    """Every live process that carries `mark`, zombies left out."""
    wanted = f"{VARIABLE}={mark[VARIABLE]}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:
                carries = wanted in file.read().split(b"\0")
            if carries and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def commands(mark):
    """The command lines of the processes that carry `mark`, without those that end while they are asked."""
    found = []
    for process in marked(mark):
        try:
            found.append(process.cmdline())
        except psutil.Error:
            continue
    return [command for command in found if command]


def none_left(mark, seconds):
    """Waits until nothing carries `mark`; says what is left otherwise."""

    def gone():
        return not marked(mark)

    try:
        eventually(gone, seconds, "processes ended")
    except AssertionError:
        left = "\n".join(" ".join(command) for command in commands(mark))
        raise AssertionError(f"still alive after {seconds} s:\n{left}") from None


def resident_bytes(process):
    """What a process holds in memory for itself: shared pages counted by their share."""
    return process.memory_full_info().pss
