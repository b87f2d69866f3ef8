"""Faults at random, seeded: processes are killed or stand still for a while, and whatever else there is to break."""

import random
import signal
import threading

import psutil

STILL_SECONDS = (0.05, 0.2, 1.0, 4.0, 6.0)


class Faults(threading.Thread):
    """Kills and stops processes until it is told to end. `choose(random)` gives the next one and what it is, or None; for
    another fault than these, a function that does it and what it does."""

    def __init__(self, seed, choose, seconds_between, killed=lambda process: None):
        super().__init__(daemon=True)
        self.random, self.choose, self.seconds_between, self.killed = random.Random(seed), choose, seconds_between, killed
        self.is_over, self.counts, self.still, self.failure = threading.Event(), {}, [], None

    def run(self):
        try:
            while not self.is_over.wait(self.random.uniform(*self.seconds_between)):
                self.one()
        except BaseException as failure:  # noqa: BLE001 - it is raised again where somebody looks
            self.failure = failure

    def one(self):
        chosen = self.choose(self.random)
        if chosen is None:
            return
        process, what = chosen
        if callable(process):
            process()
            self.count(what)
            return
        try:
            if self.random.random() < 0.5:
                process.send_signal(signal.SIGKILL)
                self.count(f"{what} killed")
                self.killed(process)
            else:
                seconds = self.random.choice(STILL_SECONDS)
                process.send_signal(signal.SIGSTOP)
                self.count(f"{what} stopped")
                timer = threading.Timer(seconds, self.go_on, [process])
                timer.daemon = True
                self.still.append(process)
                timer.start()
        except psutil.NoSuchProcess:
            self.count("already gone")

    def go_on(self, process):
        try:
            process.send_signal(signal.SIGCONT)
        except psutil.NoSuchProcess:
            self.count("gone while it stood still")

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def end(self):
        self.is_over.set()
        self.join(30)
        for process in self.still:
            self.go_on(process)
        if self.failure:
            raise self.failure


def children(process, words, but=()):
    """Its descendants whose command lines say all of the words and none of the others."""
    found = []
    for child in process.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if all(word in line for word in words) and not any(word in line for word in but):
            found.append(child)
    return found
