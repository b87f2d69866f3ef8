"""`jupyter console --kernel prust`, driven through a terminal."""

import sys

import pexpect
import pytest

WAIT = 60


@pytest.fixture
def console(home, tmp_path):
    """Starts consoles; each is left the way a user leaves it, with Ctrl-D at a prompt, and ends well."""
    children = []

    def start(*options, **environ):
        child = pexpect.spawn(
            sys.executable,
            ["-m", "jupyter", "console", "--kernel", "prust", *options],
            env=home.environ | environ,
            cwd=str(tmp_path),
            encoding="utf-8",
            dimensions=(50, 200),
            timeout=WAIT,
        )
        children.append(child)
        prompted(child)
        return child

    yield start
    for child in children:
        child.sendeof()
        child.expect(r"\(\[y\]/n\)\?")
        child.sendline("y")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


def prompted(child):
    """Waits for a new prompt, whose parts may be coloured. Once it is drawn, the terminal reads single keys again. A key
    sent earlier may be lost: in a terminal that still reads lines, Ctrl-D leaves a NUL for whoever reads keys next."""
    child.expect(r"In \[")
    child.expect(r"\]: ")


def enter(child, code, *expected):
    child.sendline(code)
    for pattern in expected:
        child.expect(pattern)
    child.expect(r"In \[\d+\]: ")


def test_value_error_interrupt_and_parallel_line(console):
    child = console("--simple-prompt", TERM="dumb", NO_COLOR="1")
    enter(child, "6 * 7", r"Out\[1\]: 42")
    enter(child, "let kept = 5;")
    enter(child, 'let x: i32 = "a";', "E0308", "mismatched types")
    child.sendline('println!("begun"); loop {}')
    child.expect("\nbegun")
    child.sendintr()
    child.expect("nterrupt")
    child.expect(r"In \[\d+\]: ")
    enter(child, "kept + 1", r"Out\[\d+\]: 6")
    enter(child, "%cluster start -n 2")
    enter(child, "%px prust::engine_id() + 40", r"Out\[\d:\d+\]: 4\d", r"Out\[\d:\d+\]: 4\d")


def test_a_parallel_cell_is_asked_for_to_its_empty_line(console):
    child = console(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")
    child.send("%%px\r")
    child.expect(r"\.\.\.: ")
    child.send('println!("from {}", prust::engine_id() + 40);\r')
    child.expect(r"\.\.\.: ")
    # One Enter, on the empty line. A second one would answer the next prompt, which is then drawn twice.
    child.send("\r")
    for _ in range(2):
        child.expect(r"\[stdout:\d\] ?from 4\d")
    prompted(child)
