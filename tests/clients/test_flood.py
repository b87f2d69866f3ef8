"""More output than anybody reads: it arrives as long as somebody does, the kernel's memory stays small, an interrupt is
seen at once, and the next cell runs."""

import time

import psutil
import pytest

READ_BYTES = 48 << 20
# What a kernel may grow by while a cell floods it. The debug build of the kernel is slow enough to fall far behind.
GROWTH_BYTES_MAX = 160 << 20

FLOODS = {
    "stdout": 'let line = "x".repeat(999); println!("started"); loop { println!("{line}"); }',
    "stderr": 'let line = "x".repeat(999); println!("started"); loop { eprintln!("{line}"); }',
    "one line": 'let part = "x".repeat(999); println!("started"); loop { print!("{part}"); }',
    "displays": 'let big = prust::html("x".repeat(99_999)); println!("started"); loop { prust::display(&big); }',
    "a child process": 'println!("started"); std::process::Command::new("yes").arg("x".repeat(999)).status()?;',
    "a shell command": f"!echo started; yes {'x' * 999} & yes {'y' * 999} >&2",
    "threads": (
        'println!("started");\n'
        'let threads: Vec<_> = (0..20)\n'
        '    .map(|_| std::thread::spawn(|| { let line = "x".repeat(999); loop { println!("{line}"); } }))\n'
        "    .collect();\n"
        "for thread in threads { thread.join().unwrap(); }"
    ),
}


def n_bytes(message):
    content = message["content"]
    return len(content.get("text", "")) + len(content.get("data", {}).get("text/html", ""))


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_costs_little_and_ends_with_an_interrupt(kernel, flood):
    kernel.ok("let kept = 7;")
    process = psutil.Process(kernel.pid)
    before = largest = process.memory_info().rss
    running = kernel.send(FLOODS[flood])
    read = 0
    while read < READ_BYTES:
        read += n_bytes(running.next())
        running.messages.clear()
        largest = max(largest, process.memory_info().rss)
    kernel.interrupt()
    start = time.monotonic()
    cell = running.finish()
    seconds = time.monotonic() - start
    largest = max(largest, process.memory_info().rss)
    assert cell.reply["content"]["ename"] == "Interrupted", cell.reply
    assert seconds < 15, "what was read after the interrupt"
    assert largest - before < GROWTH_BYTES_MAX, f"grew by {(largest - before) >> 20} MiB"
    assert kernel.ok("kept").text == "7"


def test_a_flood_of_engines_costs_little_and_ends_with_an_interrupt(kernel):
    """No engine's output is read faster than it is shown, however many they are."""
    kernel.ok("%cluster start -n 2")
    processes = [psutil.Process(kernel.pid), *psutil.Process(kernel.pid).children(recursive=True)]
    ours = [process for process in processes if process.name() == "prust"]
    before = sum(process.memory_info().rss for process in ours)
    running = kernel.send("%%px\n" + FLOODS["stdout"])
    read, largest = 0, before
    while read < READ_BYTES:
        read += n_bytes(running.next())
        running.messages.clear()
        largest = max(largest, sum(process.memory_info().rss for process in ours))
    kernel.interrupt()
    start = time.monotonic()
    cell = running.finish()
    seconds = time.monotonic() - start
    assert cell.reply["content"]["ename"] == "Interrupted", cell.reply
    assert seconds < 15, "what was read after the interrupt"
    assert largest - before < GROWTH_BYTES_MAX, f"grew by {(largest - before) >> 20} MiB"
    assert kernel.ok("%px 1 + 1").status == "ok"
    kernel.ok("%cluster stop")


def test_a_long_line_and_a_million_short_ones_arrive_whole(kernel):
    assert kernel.ok('print!("{}", "é".repeat(10_000_000));').stdout == "é" * 10_000_000
    cell = kernel.ok("for n in 0..1_000_000 { println!(\"{n}\"); }")
    assert cell.stdout == "".join(f"{n}\n" for n in range(1_000_000))


def test_output_of_many_threads_is_whole_line_by_line_and_display_by_display(kernel):
    cell = kernel.ok(
        "let threads: Vec<_> = (0..20).map(|t| std::thread::spawn(move || for n in 0..200 {\n"
        '    println!("{t} {n}");\n'
        '    if n % 50 == 0 { prust::display(&prust::html(format!("{t} {n}"))); }\n'
        "})).collect();\n"
        "for thread in threads { thread.join().unwrap(); }"
    )
    lines = [tuple(map(int, line.split())) for line in cell.stdout.splitlines()]
    assert sorted(lines) == [(t, n) for t in range(20) for n in range(200)]
    shown = [message["content"]["data"]["text/html"] for message in cell.of("display_data")]
    assert sorted(shown) == sorted(f"{t} {n}" for t in range(20) for n in range(0, 200, 50))
    # A thread's own outputs stay in its order.
    for thread in range(20):
        assert [n for t, n in lines if t == thread] == list(range(200))
        at = 0
        for message in cell.of("stream", "display_data"):
            content = message["content"]
            at += sum(line.startswith(f"{thread} ") for line in content.get("text", "").splitlines())
            if content.get("data", {}).get("text/html", "").startswith(f"{thread} "):
                assert at > int(content["data"]["text/html"].split()[1])
