"""Waiting with a deadline, the only place in the tests that lets time pass."""

import time


class Late(AssertionError):
    """What was waited for did not come."""


def eventually(check, seconds, what, every=0.02):
    """Returns the first true value of `check()`; raises `Late` naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"{what}: not within {seconds} s (last seen: {value!r})")
        time.sleep(every)
