"""A failed cell never costs a variable: crashes, interrupts, lost memory, and what is said of each, through a kernel."""

import os
import re
import resource
import time
from pathlib import Path

import psutil
import pytest

from harness.deadline import eventually
from harness.home import remove, short_folder
from harness.processes import commands, marked

GO = 'println!("go");'


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture(scope="module")
def notebook(kernel):
    """A kernel with two variables that every test of this module finds again."""
    kernel.ok("let kept = vec![1, 2, 3]; let mut n = 7;")
    return kernel


def is_whole(kernel):
    assert kernel.ok("(kept.len(), n)").text == "(3, 7)"


# What each end of a cell says: its name, and words of the reply.
CRASHES = {
    "abort": ("n = 1; std::process::abort()", "SIGABRT", ["the code aborted"]),
    "segfault": ("n = 1; unsafe { *(8 as *mut u32) = 1; }", "SIGSEGV", ["memory that is not its own"]),
    "illegal instruction": ('n = 1; unsafe { std::arch::asm!("ud2") }', "SIGILL", ["illegal instruction"]),
    "exit": ("n = 1; std::process::exit(3)", "Exit", ["exit code 3"]),
    "stack overflow": (
        "fn deep(n: u64) -> u64 { 1 + deep(std::hint::black_box(n + 1)) }\nn = 1; deep(1);",
        "StackOverflow",
        ["`main` has overflowed its stack"],
    ),
    "stack overflow of a thread": (
        "fn deep(n: u64) -> u64 { 1 + deep(std::hint::black_box(n + 1)) }\n"
        'n = 1; std::thread::Builder::new().name("diver".into()).spawn(|| deep(1))?.join().unwrap();',
        "StackOverflow",
        ["`diver` has overflowed its stack"],
    ),
    "failed allocation": ("n = 1; let v: Vec<u8> = Vec::with_capacity(1 << 46);", "OutOfMemory", ["64.0 TiB"]),
    "panic across C": (
        'extern "C" fn callback() { panic!("across C") }\nn = 1; callback();',
        "panic",
        ["across C", "In[", ":1:28", "cannot unwind"],
    ),
    "panic in a destructor while another unwinds": (
        'struct Bomb; impl Drop for Bomb { fn drop(&mut self) { panic!("second") } }\nn = 1; { let _b = Bomb; panic!("first"); }',
        "panic",
        ["second", ":1:56", "`first`"],
    ),
    "panic of a thread that cannot unwind": (
        'extern "C" fn there() { panic!("over there") }\n'
        'n = 1; std::thread::Builder::new().name("other".into()).spawn(|| there())?.join().unwrap();',
        "panic",
        ["over there", ":1:25", "thread `other`"],
    ),
    "kill from outside": (
        'n = 1; std::process::Command::new("sh").args(["-c", "kill -9 $PPID"]).status()?; loop { std::thread::park() }',
        "SIGKILL",
        ["killed from outside", "MiB"],
    ),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_says_what_it_was_and_variables_are_as_before(notebook, crash):
    code, name, words = CRASHES[crash]
    cell = notebook.run(code)
    queued = notebook.run("n")
    assert cell.status == "error"
    assert cell.reply["content"]["ename"] == name, cell.error
    for word in [*words, "All variables are as they were before the cell."]:
        assert word in plain(cell.error), cell.error
    assert queued.text == "7"
    assert len(cell.of("error")) == 1
    is_whole(notebook)


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        ('n = 8; panic!("boom {}", kept.len())', "panic", ["boom 3", ":1:8"]),
        ('n = 8; "x".parse::<i32>()?;', "ParseIntError", ["invalid digit", ":1:8"]),
        ('struct Loud; impl Drop for Loud { fn drop(&mut self) { panic!("dropped") } }\nn = 8; { Loud; }', "panic", ["dropped"]),
        ("n = 8; let v: Vec<u64> = Vec::with_capacity(usize::MAX / 2);", "panic", ["capacity overflow"]),
    ],
)
def test_a_panic_and_a_question_mark_keep_what_the_cell_did(notebook, code, name, words):
    cell = notebook.fails(code, *words)
    assert cell.reply["content"]["ename"] == name
    assert "rustc/" not in cell.error
    assert notebook.ok("n").text == "8"
    notebook.ok("n = 7;")
    is_whole(notebook)


def test_variables_of_a_cell_that_fails_are_named_as_not_kept(notebook):
    cell = notebook.run('let early = 1; let n = 8; let other = 2; "x".parse::<i32>()?;')
    assert "`early`, `other` are not kept: the cell did not reach its end." in plain(cell.error)
    is_whole(notebook)


def test_a_variable_that_a_panic_destroyed_comes_back(notebook):
    notebook.fails('let taken = kept; n = 1; panic!("with {}", taken.len())', "with 3", "as they were before the cell")
    is_whole(notebook)


def test_cells_queued_behind_a_crash_are_aborted(notebook):
    crash = notebook.send(GO + "std::thread::sleep(std::time::Duration::from_millis(300)); std::process::abort()")
    queued = [notebook.send("n = 100;") for _ in range(3)]
    assert crash.finish().status == "error"
    assert [running.finish().status for running in queued] == ["aborted"] * 3
    is_whole(notebook)


# ---- what was printed


def test_words_before_a_crash_are_not_lost_and_stay_with_their_cell(notebook):
    for ending in ("std::process::abort()", "unsafe { *(8 as *mut u32) = 1; }", "std::process::exit(1)"):
        cell = notebook.fails(f'println!("a line"); print!("and half of one"); {ending}')
        assert cell.stdout == "a line\nand half of one", ending
        assert notebook.ok('print!("next");').stdout == "next"
    cell = notebook.fails('print!("{}END", "x".repeat(1 << 20)); std::process::abort()')
    assert len(cell.stdout) == (1 << 20) + 3 and cell.stdout.endswith("END")


def test_an_unfinished_line_is_seen_while_the_cell_runs_and_after_its_interrupt(notebook):
    running = notebook.send('print!("50%"); loop { std::hint::spin_loop() }')
    running.until_text("50%", 10)
    notebook.interrupt()
    assert running.finish().stdout == "50%"
    is_whole(notebook)


# ---- interrupts

BLOCKED = {
    "a tight loop": "n = 1; loop { std::hint::spin_loop() }",
    "a sleep": "std::thread::sleep(std::time::Duration::from_secs(600));",
    "a read of a pipe": "use std::io::Read; let (mut r, _w) = std::io::pipe()?; r.read_exact(&mut [0u8])?;",
    "a socket": 'let l = std::net::TcpListener::bind("127.0.0.1:0")?; let s = l.accept()?.0;',
    "a join": "std::thread::spawn(|| loop { std::thread::park() }).join().unwrap();",
    "a deadlock": "{ let m = std::sync::Mutex::new(1); let _a = m.lock().unwrap(); let _b = m.lock().unwrap(); }",
    "another program": 'std::process::Command::new("sleep").arg("600").status()?;',
}


def interrupted(kernel, running):
    """Interrupts, and returns the cell and the seconds until it was idle."""
    start = time.monotonic()
    kernel.interrupt()
    cell = running.finish(30)
    assert cell.status == "error" and cell.reply["content"]["ename"] == "Interrupted", cell.error
    return cell, time.monotonic() - start


@pytest.mark.parametrize("what", BLOCKED)
def test_an_interrupt_ends_what_blocks_within_a_second(notebook, what):
    running = notebook.send(GO + BLOCKED[what])
    running.until_text("go")
    queued = notebook.send("n = 100;")
    # Messages of one channel come in order: when this is answered, the cell is in the kernel's queue.
    notebook.reply(notebook.client.kernel_info())
    _, seconds = interrupted(notebook, running)
    assert seconds < 1, f"{what}: {seconds:.2f} s"
    assert queued.finish().status == "aborted"
    is_whole(notebook)


def test_an_interrupt_ends_the_wait_for_input(notebook):
    running = notebook.send(GO + "let mut line = String::new(); std::io::stdin().read_line(&mut line)?;", allow_stdin=True)
    running.until_text("go")
    notebook.client.get_stdin_msg(timeout=30)
    interrupted(notebook, running)
    is_whole(notebook)


def test_an_interrupt_ends_a_compilation_and_its_rustc(notebook):
    slow = "let sizes = [" + ", ".join(f"format!(\"{{}}\", {i}u64 * 3)" for i in range(4000)) + "]; sizes.len()"
    running = notebook.send(slow)

    def compilers():
        return [command for command in commands(notebook.mark) if Path(command[0]).name == "rustc"]

    eventually(compilers, 30, "a compiler runs")
    interrupted(notebook, running)
    eventually(lambda: not compilers(), 10, "the compiler ended")
    is_whole(notebook)


def test_a_program_that_an_interrupted_cell_ran_ends_with_it(notebook):
    earlier = notebook.ok('let server = std::process::Command::new("sleep").arg("601").spawn()?; server.id()').text
    running = notebook.send(GO + 'std::process::Command::new("sleep").arg("602").status()?;')
    running.until_text("go")

    def programs():
        return [command[1] for command in commands(notebook.mark) if command[0] == "sleep"]

    eventually(lambda: "602" in programs(), 10, "the program runs")
    interrupted(notebook, running)
    eventually(lambda: programs() == ["601"], 10, "the cell's program ended, the earlier one goes on")
    psutil.Process(int(earlier)).kill()


# ---- the state is kept, not made again


def test_state_is_kept_and_not_replayed(fresh, tmp_path):
    kernel = fresh()
    kernel.ok(
        "use std::{collections::HashMap, io::Write};\n"
        'let mut file = std::fs::OpenOptions::new().create(true).append(true).open("effects")?; file.write_all(b"once")?;\n'
        "let heap = Box::new(5u8); let at = std::time::Instant::now();\n"
        "let map: HashMap<u32, u32> = HashMap::new();\n"
        'static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(5);'
    )
    look = "use std::hash::BuildHasher; (&*heap as *const u8 as usize, at, map.hasher().hash_one(7u32))"
    before = kernel.ok(look).text
    for end in ("std::process::abort()", "unsafe { *(8 as *mut u8) = 1; }", "std::process::exit(0)"):
        kernel.fails(end)
        assert kernel.ok(look).text == before
    running = kernel.send(GO + "loop {}")
    running.until_text("go")
    interrupted(kernel, running)
    assert kernel.ok(look).text == before
    assert (tmp_path / "effects").read_bytes() == b"once"


def test_threads_that_did_not_survive_are_named(fresh):
    kernel = fresh()
    kernel.ok(
        'for name in ["ticker", "poller"] {\n'
        "    std::thread::Builder::new().name(name.into()).spawn(|| loop { std::thread::park() })?;\n"
        "}\nstd::thread::spawn(|| loop { std::thread::park() }); let kept = 1;"
    )
    error = kernel.fails("std::process::abort()", "3 thread(s)", "`ticker`", "`poller`", "1 without a name", "%restart").error
    assert "prust" not in error
    assert "thread" not in kernel.fails("std::process::abort()").error


def test_a_cell_that_waits_for_lost_threads_is_told_so(fresh):
    kernel = fresh()
    kernel.ok(
        "use std::sync::mpsc; let (ask, asked) = mpsc::channel::<mpsc::Sender<u32>>();\n"
        'std::thread::Builder::new().name("pool".into()).spawn(move || for reply in asked { reply.send(5).ok(); })?;'
    )
    wait = "let (reply, got) = mpsc::channel(); ask.send(reply.clone())?; let answer = got.recv()?; answer"
    assert kernel.ok(wait).text == "5"
    kernel.fails("std::process::abort()", "`pool`")
    running = kernel.send(wait)
    running.until(lambda message: "waits for ever" in message["content"].get("text", ""), 30)
    cell, seconds = interrupted(kernel, running)
    assert seconds < 1
    for word in ("`pool`", "In[3]", "%restart"):
        assert word in cell.stderr + cell.error
    kernel.ok("%restart")
    assert kernel.ok("5").text == "5"


# ---- going back


def test_undo_goes_back_cell_by_cell_and_says_to_where(fresh):
    kernel = fresh()
    kernel.ok("let a = 1;")
    kernel.ok("let a = 2; let b = 3;")
    kernel.ok("fn five() -> i32 { 5 }")
    kernel.ok("use std::collections::BTreeMap as Tree;")
    assert "In[4] is undone" in kernel.ok("%undo").stderr
    kernel.fails("Tree::<i32, i32>::new()", "Tree")
    assert "In[3] is undone" in kernel.ok("%undo").stderr
    kernel.fails("five()", "five")
    assert "In[2] is undone" in kernel.ok("%undo").stderr
    assert kernel.ok("a").text == "1"
    kernel.fails("b", "b")
    # The cell that showed `a` ran, so it is the last one; before it there is no snapshot.
    assert "is undone" in kernel.ok("%undo").stderr
    kernel.fails("%undo", "nothing to undo")
    assert kernel.ok("a").text == "1"


def test_undo_takes_back_what_a_failed_cell_did(fresh):
    kernel = fresh()
    kernel.ok("let mut n = 1;")
    kernel.fails('n = 2; panic!("after a change")')
    assert kernel.ok("n").text == "2"
    kernel.fails('n = 3; panic!("again")')
    assert "In[4] is undone" in kernel.ok("%undo").stderr
    assert kernel.ok("n").text == "2"
    kernel.fails("n = 4; std::process::abort()")
    kernel.fails("%undo", "nothing to undo")
    assert kernel.ok("n").text == "2"


def test_a_cell_of_several_parts_is_one_cell(fresh):
    kernel = fresh()
    kernel.ok("let a = 1;")
    kernel.ok("let b = 2;\n%vars\nlet c = 3;")
    assert "In[2] is undone" in kernel.ok("%undo").stderr
    kernel.fails("b", "b")
    kernel.fails("let b = 2;\n%vars\nlet c = 3; std::process::abort();", "as they were before the cell")
    kernel.fails("b", "b")
    assert kernel.ok("a").text == "1"


# ---- large heaps


def test_snapshots_tell_their_costs_and_can_be_chosen(fresh):
    kernel = fresh()
    kernel.ok("let a = 1;")
    shown = kernel.ok("%snapshot").shown
    assert re.search(r"auto: before each cell while the worker is below [0-9.]+ [GM]iB", shown), shown
    assert re.search(r"takes [0-9.]+ ms, .* [0-9.]+ s per GiB written", shown), shown
    assert "off" in kernel.ok("%snapshot off").shown
    kernel.ok("let b = 2;")
    kernel.fails("%undo", "no snapshot before In[4]")
    running = kernel.send(GO + "loop {}")
    running.until_text("go")
    kernel.interrupt()
    running.until(lambda message: "Interrupt once more" in message["content"].get("text", ""), 30)
    interrupted(kernel, running)
    assert "no variables" in kernel.ok("%vars").shown
    assert "on: before each cell" in kernel.ok("%snapshot on").shown
    kernel.ok("let c = 3;")
    kernel.fails("std::process::abort()")
    assert kernel.ok("c").text == "3"


def test_a_large_allocation_is_made_of_huge_pages_where_the_system_offers_them(fresh):
    """A snapshot of them costs next to nothing: 512 times fewer pages are noted."""
    kernel = fresh()
    kernel.ok("let large = vec![1u8; 256 << 20];")
    worker = int(kernel.ok("std::process::id()").text)
    rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
    huge = int(re.search(r"AnonHugePages:\s+(\d+) kB", rollup).group(1))
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    if "[never]" not in modes:
        assert huge > 128 << 10, modes
    assert kernel.ok("large[7]").text == "1"


def test_half_a_gigabyte_with_threads_alive_survives_crashes(fresh):
    kernel = fresh()
    kernel.ok(
        "let mut big: Vec<u64> = (0..(1u64 << 26)).collect();\n"
        "let live = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)); let beat = live.clone();\n"
        "std::thread::spawn(move || loop { beat.fetch_add(1, std::sync::atomic::Ordering::Relaxed); std::thread::yield_now() });"
    )
    check = "big.iter().step_by(509).sum::<u64>()"
    before = kernel.ok(check).text
    for _ in range(3):
        kernel.fails("for x in &mut big { *x = 0; } std::process::abort()", "as they were before the cell")
        assert kernel.ok(check).text == before
    running = kernel.send(GO + "loop { for x in &mut big { *x += 1; } }")
    running.until_text("go")
    interrupted(kernel, running)
    assert kernel.ok(check).text == before


def test_a_refused_allocation_costs_nothing(fresh):
    """RLIMIT_AS works without any privilege, and is inherited by the worker."""
    kernel = fresh()
    kernel.ok("let kept = vec![1u8; 1 << 20];")
    worker = int(kernel.ok("std::process::id()").text)
    limit = 1 << 30
    resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
    kernel.fails("let v = vec![1u8; 2 << 30]; println!(\"{}\", v[7]);", "OutOfMemory", "2.0 GiB")
    assert kernel.ok("kept.len()").text == "1048576"


def memory_group():
    """A control group for a test and the file of its limit: version 2, else 1; None where none can be made."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        folder = Path(root, f"prust-test-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists() and os.access(folder / "cgroup.procs", os.W_OK):
            return folder, folder / limit
        folder.rmdir()
    return None


def test_a_cell_killed_for_memory_says_so_and_its_snapshot_lives(fresh):
    """In a control group where one can be made; otherwise the kill is sent by hand, without the proof that it was memory."""
    kernel = fresh()
    kernel.ok("let kept = vec![1u8; 4 << 20];")
    group = memory_group()
    if group is None:
        kernel.fails(CRASHES["kill from outside"][0].replace("n = 1; ", ""), "SIGKILL")
    else:
        folder, limit = group
        worker = int(kernel.ok("std::process::id()").text)
        try:
            limit.write_text(str(256 << 20))
            (folder / "cgroup.procs").write_text(str(worker))
            kernel.fails("let v: Vec<_> = (0..1024u32).map(|i| vec![i; 1 << 20]).collect();", "SIGKILL", "memory ran out", "MiB")
            assert kernel.ok("kept.iter().map(|b| *b as u32).sum::<u32>()").text == str(4 << 20)
        finally:
            kernel.close()
            eventually(lambda: not (folder / "cgroup.procs").read_text().strip(), 10, "the group is empty")
            folder.rmdir()
            return
    assert kernel.ok("kept.len()").text == str(4 << 20)


def test_the_running_worker_is_killed_for_memory_before_its_snapshot(fresh):
    kernel = fresh()
    kernel.ok("let a = 1;")
    score = 'std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse::<i32>()?'
    running = int(kernel.ok(score).text)
    workers = [process for process in marked(kernel.mark) if process.name().startswith("prust-worker")]
    scores = sorted(int(Path(f"/proc/{process.pid}/oom_score_adj").read_text()) for process in workers)
    assert len(scores) == 2 and scores[0] < scores[1] == running


# ---- two hundred times


def test_an_interrupt_at_the_end_of_a_cell_comes_before_it_or_after_it(fresh):
    """What the reply says and what the variables are agree, however close the interrupt is to the end."""
    kernel = fresh()
    kernel.ok("let mut n = 0; let mut kept = String::from(\"kept\");")
    n_done = 0
    for turn in range(60):
        running = kernel.send(f"n += 1; {GO} for _ in 0..{turn * 2000} {{ std::hint::spin_loop() }}")
        running.until_text("go")
        # Once it is answered it meets no later cell than the next one.
        kernel.control("interrupt_request")
        cell = running.finish()
        assert cell.status in ("ok", "error"), cell.reply
        n_done += cell.status == "ok"
        look = kernel.send("(n, kept.as_str())").finish()
        if look.status == "error":
            # The interrupt came after the cell, and met this one.
            assert cell.status == "ok", cell.error
            look = kernel.send("(n, kept.as_str())").finish()
        assert look.text == f'({n_done}, "kept")', f"turn {turn}: {cell.status} {cell.error}; then {look.error}"


def footprint(kernel, temporary):
    """Descriptors, memory, processes, zombies and temporary files (in a folder of their own) of a kernel and its children."""
    own = psutil.Process(kernel.pid)
    family = marked(kernel.mark)
    zombies = [child for child in own.children(recursive=True) if child.status() == psutil.STATUS_ZOMBIE]
    worker = [process for process in family if process.name().startswith("prust-worker")]
    return {
        "descriptors of the kernel": own.num_fds(),
        "descriptors of the worker": max(process.num_fds() for process in worker),
        "processes": len(family),
        "zombies": len(zombies),
        "temporary files": len(list(temporary.iterdir())),
        "threads of the kernel": own.num_threads(),
    }, {
        "memory of the kernel": own.memory_info().rss,
        "memory of the worker": max(process.memory_info().rss for process in worker),
    }


def test_two_hundred_crashes_and_interrupts_leave_no_trace(fresh, request):
    temporary = short_folder()
    request.addfinalizer(lambda: remove(temporary))
    kernel = fresh(TMPDIR=str(temporary))
    kernel.ok("let list: Vec<u32> = (0..1000).collect(); let text = String::from(\"kept\"); let mut n = 0;")
    crashes = [
        "n += 1; std::process::abort()",
        "n += 1; unsafe { *(8 as *mut u32) = 1; }",
        "n += 1; std::process::exit(3)",
        GO + "n += 1; loop { std::hint::spin_loop() }",
    ]
    look = "(list.iter().sum::<u32>(), text.clone(), n)"

    def round(turn):
        code = crashes[turn % len(crashes)]
        running = kernel.send(code)
        if code.startswith(GO):
            running.until_text("go")
            kernel.interrupt()
        assert running.finish().status == "error"
        assert kernel.ok(look).text == '(499500, "kept", 0)'

    for turn in range(40):
        round(turn)
    counts, sizes = footprint(kernel, temporary)
    for turn in range(160):
        round(turn)
    counts_after, sizes_after = footprint(kernel, temporary)
    assert counts_after["zombies"] == 0
    for name, before in counts.items():
        assert counts_after[name] <= before + 2, (name, counts, counts_after)
    for name, before in sizes.items():
        assert sizes_after[name] < before + (8 << 20), (name, sizes, sizes_after)
