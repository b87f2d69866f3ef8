"""The kernel protocol as clients meet it: order, counters, stdin, interrupts, crashes, bad input, transports, ends."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from jupyter_client.jsonutil import parse_date

from harness.deadline import eventually
from harness.home import binary
from harness.kernel import Kernel
from harness.processes import marked, new_mark, none_left
from harness.raw import Raw, request

CHANNELS = ("shell_port", "control_port", "stdin_port")
SPIN = 'println!("started"); loop { std::hint::spin_loop(); }'


def raw_of(kernel):
    return Raw(json.loads(open(kernel.manager.connection_file).read()))


# Order and content ---------------------------------------------------------------------------------------------------


def test_messages_of_a_cell_come_in_the_order_of_the_specification(kernel):
    cell = kernel.ok('println!("printed"); 1 + 1')
    assert cell.kinds == ["busy", "execute_input", "stdout", "execute_result", "idle"]
    assert (cell.stdout, cell.text) == ("printed\n", "2")
    assert cell.of("execute_result")[0]["content"]["execution_count"] == cell.count
    # Dates are read or not, as long as ipyparallel is imported or not: it turns that off for all.
    started, replied = cell.reply["metadata"]["started"], cell.reply["header"]["date"]
    assert parse_date(started) <= (parse_date(replied) if isinstance(replied, str) else replied)


def test_stdout_and_stderr_keep_their_text_whole(kernel):
    cell = kernel.ok('for i in 0..3 { print!("{i},"); } eprint!("warned"); print!("no newline, ä€🦀")')
    assert (cell.stdout, cell.stderr) == ("0,1,2,no newline, ä€🦀", "warned")


def test_a_partial_line_is_seen_before_the_cell_ends(fresh):
    kernel = fresh()
    code = 'use std::io::Write; print!("half a li"); std::io::stdout().flush()?; println!("started");' + " loop {}"
    running = kernel.send(code)
    running.until_text("half a li")
    kernel.interrupt()
    assert running.finish().status == "error"


def test_a_hundred_cells_keep_their_output_apart(kernel):
    kernel.ok("let mut turn = 0;")
    for turn in range(1, 101):
        cell = kernel.ok('turn += 1; println!("out {turn}"); eprintln!("err {turn}"); print!("end {turn}");')
        assert (cell.stdout, cell.stderr) == (f"out {turn}\nend {turn}", f"err {turn}\n")


def test_one_session_for_everything_the_kernel_sends(kernel):
    messages = kernel.ok('println!("a"); 1').messages + [kernel.control("kernel_info_request")[0]]
    assert len({message["header"]["session"] for message in messages}) == 1
    assert len({message["header"]["msg_id"] for message in messages}) == len(messages)


def test_the_parent_header_is_the_request_header_byte_for_byte(kernel):
    raw = raw_of(kernel)
    asked = request(raw.info["key"], "kernel_info_request")
    answer = raw.ask("shell_port", asked)
    parts = answer[answer.index(b"<IDS|MSG>") + 2 :]
    assert parts[1] == asked[2]
    date = json.loads(parts[0])["date"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", date), date
    raw.close()


def test_execution_counts_move_only_with_stored_history(kernel):
    first = kernel.ok("1").count
    assert kernel.ok("1").count == first + 1
    silent = kernel.ok('println!("x"); 5', silent=True)
    assert silent.kinds == ["busy", "idle"]
    kernel.ok("1", store_history=False)
    assert kernel.ok("1").count == first + 2


def test_the_first_cell_is_number_one(fresh):
    assert fresh().ok("1").count == 1


def test_user_expressions_are_evaluated_one_by_one(kernel):
    cell = kernel.ok("let ten = 10;", user_expressions={"twice": "ten * 2", "wrong": "nowhere"})
    expressions = cell.reply["content"]["user_expressions"]
    assert expressions["twice"]["status"] == "ok" and expressions["twice"]["data"]["text/plain"] == "20"
    assert expressions["wrong"]["status"] == "error" and "nowhere" in expressions["wrong"]["evalue"]


def test_an_error_aborts_the_queue_unless_told_otherwise(kernel):
    sent = [kernel.send(code) for code in ('panic!("first")', "1", "2")]
    replies = [kernel.reply(running.msg_id) for running in sent]
    assert [reply["content"]["status"] for reply in replies] == ["error", "aborted", "aborted"]
    sent = [kernel.send(code, stop_on_error=False) for code in ('panic!("second")', "1")]
    replies = [kernel.reply(running.msg_id) for running in sent]
    assert [reply["content"]["status"] for reply in replies] == ["error", "ok"]
    assert kernel.ok("3").text == "3"


def test_a_compile_error_points_into_the_cell_and_changes_nothing(kernel):
    kernel.ok("let kept = 41;")
    cell = kernel.fails('let kept = "new";\nlet wrong: i32 = "text";', "E0308", "mismatched types", ":2:18")
    assert f"In[{cell.count}]" in cell.error
    assert "__" not in cell.error, "nothing generated is visible"
    assert kernel.ok("kept + 1").text == "42"


def test_a_panic_is_an_error_with_the_line_of_the_cell(kernel):
    cell = kernel.fails('let n = 1;\n\npanic!("number {n}")', "number 1", ":3:")
    assert cell.kinds[-2:] == ["error", "idle"]
    kernel.fails('"x".parse::<i32>()?;', "invalid digit")


def test_a_flood_of_lines_arrives_whole_and_in_few_messages(kernel):
    start = time.monotonic()
    cell = kernel.ok('for i in 0..100_000 { println!("line {i}"); }')
    seconds = max(1.0, time.monotonic() - start)
    assert cell.stdout == "".join(f"line {i}\n" for i in range(100_000))
    assert len(cell.of("stream")) < 900 * seconds


def test_a_megabyte_travels_both_ways(kernel):
    text = "x" * 1_000_000
    assert kernel.ok(f'let long = "{text}"; print!("{{long}}")').stdout == text


def test_output_of_a_background_thread_goes_to_the_cell_then_running(kernel):
    kernel.ok(
        "let (go, gate) = std::sync::mpsc::channel::<()>();\n"
        'let late = std::thread::spawn(move || { gate.recv().unwrap(); println!("from behind"); });'
    )
    cell = kernel.ok('go.send(())?; late.join().unwrap(); println!("joined")')
    assert cell.stdout == "from behind\njoined\n"


# While a cell runs ---------------------------------------------------------------------------------------------------


def test_stdin_asks_the_frontend(kernel):
    code = "let mut line = String::new(); let n = std::io::stdin().read_line(&mut line)?; (n, line)"
    running = kernel.send(code, allow_stdin=True)
    asked = kernel.client.get_stdin_msg(timeout=60)
    assert asked["msg_type"] == "input_request" and asked["content"]["password"] is False
    kernel.client.input("hello there")
    assert running.finish().text == r'(12, "hello there\n")'


def test_stdin_without_a_frontend_that_answers_is_at_its_end(kernel):
    code = "let mut line = String::new(); std::io::stdin().read_line(&mut line)?"
    cell = kernel.ok(code, allow_stdin=False)
    assert cell.text == "0" and "cannot ask for input" in cell.stderr


def test_waiting_for_input_can_be_interrupted(kernel):
    kernel.ok("let before_input = 5;")
    running = kernel.send("let mut line = String::new(); std::io::stdin().read_line(&mut line)?;", allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=60)
    kernel.interrupt()
    assert running.finish().status == "error"
    assert kernel.ok("before_input").text == "5"


@pytest.mark.parametrize("how", ["interrupt_request", "SIGINT"])
def test_an_interrupt_ends_the_cell_and_keeps_the_variables(kernel, how):
    kernel.ok("let kept = vec![1, 2, 3];")
    running = kernel.send(SPIN)
    running.until_text("started")
    start = time.monotonic()
    if how == "SIGINT":
        os.kill(kernel.pid, signal.SIGINT)
    else:
        kernel.interrupt()
    cell = running.finish(seconds=10)
    assert cell.status == "error" and "nterrupt" in cell.error
    assert time.monotonic() - start < 2
    assert kernel.ok("kept.len()").text == "3"


def test_control_is_answered_while_a_cell_runs(kernel):
    running = kernel.send(SPIN)
    running.until_text("started")
    reply, seconds = kernel.control("kernel_info_request")
    assert reply["content"]["status"] == "ok" and seconds < 0.5
    kernel.interrupt()
    assert running.finish().status == "error"


def test_shutdown_is_answered_while_a_cell_runs(fresh):
    kernel = fresh()
    running = kernel.send(SPIN)
    running.until_text("started")
    reply, _ = kernel.control("shutdown_request", {"restart": False})
    assert reply["msg_type"] == "shutdown_reply" and reply["content"] == {"status": "ok", "restart": False}
    none_left(kernel.mark, 5)


CRASHES = {
    "abort": ("std::process::abort()", "SIGABRT"),
    "exit": ("std::process::exit(3)", "exit code 3"),
    "segfault": ("unsafe { std::ptr::write_volatile(8 as *mut u8, 1) }", "SIGSEGV"),
    "stack overflow": ("fn deep(n: u64) -> u64 { if n == 0 { 0 } else { deep(n + 1) + n } }\ndeep(1)", ""),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_is_an_error_and_costs_no_variable(kernel, crash):
    code, word = CRASHES[crash]
    kernel.ok("let mut kept = vec![1, 2, 3]; kept.push(4);")
    cell = kernel.fails('println!("printed before");\n' + code, word)
    assert "printed before" in cell.stdout
    assert kernel.ok("kept.iter().sum::<i32>()").text == "10"


def test_comms_to_nowhere_are_closed_at_once(kernel):
    message = kernel.client.session.msg(
        "comm_open", {"comm_id": "c1", "target_name": "nobody.knows", "data": {}}
    )
    kernel.client.shell_channel.send(message)
    while True:
        answer = kernel.client.get_iopub_msg(timeout=10)
        if answer["msg_type"] == "comm_close":
            break
    assert answer["content"]["comm_id"] == "c1"
    kernel.client.comm_info()


def test_the_heartbeat_returns_what_it_got(kernel):
    raw = raw_of(kernel)
    assert raw.ask("hb_port", [b"ping", b"more"]) == [b"ping", b"more"]
    raw.close()


# Start and end -------------------------------------------------------------------------------------------------------


def test_the_ipc_transport_works(fresh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the sockets' paths are relative
    kernel = fresh(transport="ipc")
    assert kernel.ok("20 + 3").text == "23"


class Bare:
    """A kernel started by hand on a connection file, as no manager would."""

    def __init__(self, home, path, **entries):
        self.path, self.mark = path, new_mark()
        ports = dict.fromkeys(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), 0)
        info = {"transport": "tcp", "ip": "127.0.0.1", "key": "a-key", "signature_scheme": "hmac-sha256"}
        if not path.exists():
            path.write_text(json.dumps(info | ports | entries))
        self.process = subprocess.Popen(
            [str(binary()), "kernel", "-f", str(path)], env=home.environ | self.mark, stderr=subprocess.PIPE, text=True
        )

    def info(self):
        """The connection file once all ports in it are set."""

        def filled():
            info = json.loads(self.path.read_text())
            return info if all(value for name, value in info.items() if name.endswith("_port")) else None

        return eventually(filled, 20, "ports written to the connection file")

    def end(self):
        self.process.kill()
        self.process.communicate()
        none_left(self.mark, 2)


def test_port_zero_is_filled_in_and_written_back_for_the_owner_only(home, tmp_path):
    kernel = Bare(home, tmp_path / "kernel.json")
    info = kernel.info()
    raw = Raw(info)
    assert raw.ask("shell_port", request("a-key", "kernel_info_request"), seconds=20) is not None
    assert (tmp_path / "kernel.json").stat().st_mode & 0o777 == 0o600
    raw.close()
    kernel.end()


def test_a_second_kernel_on_one_file_says_so_and_ends(home, tmp_path):
    first = Bare(home, tmp_path / "kernel.json")
    info = first.info()
    second = Bare(home, tmp_path / "kernel.json")
    _, said = second.process.communicate(timeout=20)
    assert second.process.returncode not in (0, None)
    assert "in use" in said and "panicked" not in said, said
    raw = Raw(info)
    assert raw.ask("shell_port", request("a-key", "kernel_info_request")) is not None, "the first one lives"
    raw.close()
    first.end()


@pytest.mark.parametrize("text", ["", "{", '{"ip": 3}', '{"signature_scheme": "hmac-md5"}'])
def test_a_broken_connection_file_is_a_clear_error(home, tmp_path, text):
    path = tmp_path / "kernel.json"
    path.write_text(text)
    done = home.prust("kernel", "-f", path, seconds=20)
    assert done.returncode != 0 and str(path) in done.stderr and "panicked" not in done.stderr


def test_a_restart_forgets_variables_and_takes_a_new_session(fresh):
    kernel = fresh()
    session = kernel.ok("let gone = 1;").reply["header"]["session"]
    kernel.manager.restart_kernel(now=False)
    kernel.client.wait_for_ready(timeout=60)
    cell = kernel.fails("gone", "E0425")
    assert cell.reply["header"]["session"] != session
    assert cell.count == 1


def test_killing_the_kernel_leaves_no_process_after_two_seconds(home, tmp_path):
    kernel = Kernel(cwd=tmp_path)
    kernel.ok("%cluster start -n 4")
    kernel.ok("%px 1 + 1")
    running = kernel.send("%%px\n" + SPIN)
    running.until_text("started")
    names = {process.name() for process in marked(kernel.mark)}
    assert len(marked(kernel.mark)) >= 9, names
    os.kill(kernel.pid, signal.SIGKILL)
    none_left(kernel.mark, 2)
    kernel.close()
