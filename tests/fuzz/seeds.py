"""Writes what fuzzing starts from: the cells of the transcripts and notebooks, some messages and files, and conversations
of clients and engines with a controller."""

import collections
import json
import pickle
import sys
from pathlib import Path

import numpy
from ipyparallel import util
from ipyparallel.serialize.serialize import pack_apply_message, serialize_object

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.home import ROOT  # noqa: E402
from harness.transcript import rows  # noqa: E402

END_OF_CELL = "\n====\n"

MIR = """fn leaf::{closure#0}::{closure#1}(_1: &{closure@src/cell.rs:1:2: 1:3}, _2: &str) -> std::vec::Vec<i32> {
    _1 = prust_runtime::slots::put::<0, {closure@src/cell.rs:1:2: 1:3}>(const "f", move _2)
    _2 = prust_runtime::slots::put::<1, std::vec::Vec<(i32, for<'a> fn(&'a u8) -> i8)>>(const "x", move _3)
"""

MESSAGE = {
    "message": "use of moved value: `x`",
    "code": {"code": "E0382"},
    "level": "error",
    "spans": [
        {
            "file_name": "src/cell.rs",
            "byte_start": 1180,
            "byte_end": 1190,
            "is_primary": True,
            "label": "value used here after move",
            "suggested_replacement": None,
            "expansion": None,
        }
    ],
    "children": [{"message": "help", "code": None, "level": "help", "spans": [], "children": [], "rendered": None}],
    "rendered": "error[E0382]",
}


def cells():
    """The cells of each row and notebook."""
    for path in sorted((ROOT / "tests" / "behaviour").glob("[0-9]*.txt")):
        for row in rows(path):
            yield [step.text for step in row.steps if step.kind in ("In", "Tab", "Look", "Enter")]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        yield from (["".join(cell["source"])] for cell in json.loads(path.read_text())["cells"])
    yield [json.dumps(MESSAGE), MIR]


def messages():
    """The first byte says what the rest is read as; see `bytes/input.rs`."""
    header = {"msg_id": "1", "session": "s", "username": "u", "date": "2026-01-01T00:00:00Z", "msg_type": "execute_request"}
    content = {"code": "1", "silent": False, "store_history": True, "user_expressions": {"a": "1"}, "cursor_pos": 1}
    frames = [b"id", b"<IDS|MSG>", b"00" * 32, *(json.dumps(part).encode() for part in (header, {}, {"cellId": "a"}, content))]
    yield b"\x00" + b"\xff".join(frames)
    kernel = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", "signature_scheme": "hmac-sha256"}
    kernel |= {f"{name}_port": 1 for name in ("shell", "iopub", "stdin", "control", "hb")}
    engine = {"ssh": "", "interface": "tcp://127.0.0.1", "location": "h", "pack": "json", "unpack": "json", "key": "k"}
    engine |= {"signature_scheme": "hmac-sha256", "registration": 1, "control": 2, "mux": 3, "task": 4, "iopub": 5}
    engine |= {"hb_ping": 6, "hb_pong": 7, "broadcast": [8, 9], "notification": 1, "task_scheme": "leastload"}
    for kind in (b"\x01", b"\x05"):
        yield kind + json.dumps(kernel).encode()
        yield kind + json.dumps(engine).encode()
    for tag in range(1, 9):
        yield bytes([2, tag]) + bytes(range(24))
    yield b"\x05::2, 3..5 all"
    for kind in (3, 4):
        yield bytes([kind, 3, 1, 2, 3])
        yield bytes([kind, 4, 0, 0, 0, 1, 1, 1, 1, 4, 0, 0, 0, 1, 2, 3, 4])
    greeting = (b"\xff" + b"\x00" * 7 + b"\x01\x7f\x03\x01NULL").ljust(64, b"\x00")
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x06engine"
    yield b"\x06" + greeting + bytes([4, len(ready)]) + ready
    yield b"\x06" + greeting + bytes([6, *[0] * 7, len(ready)]) + ready
    for frames in ([], [b"id", b"{}", b""]):
        lengths = b"".join(len(frame).to_bytes(8, "little") for frame in frames)
        rest = bytes([3]) + len(frames).to_bytes(4, "little") + lengths + b"".join(frames)
        yield b"\x07" + 2 * (len(rest).to_bytes(8, "little") + rest)


def event(kind, *frames):
    """One event of `cluster/input.rs`: its kind, and its frames."""
    texts = (json.dumps(frame) if isinstance(frame, dict) else frame for frame in frames)
    return bytes([kind]) + b"\xff".join(text if isinstance(text, bytes) else text.encode() for text in texts)


def message(kind, ids, msg_id, msg_type, content=None, metadata=None, parent=None, session="c0", buffers=()):
    header = {"msg_id": msg_id, "msg_type": msg_type, "session": session, "date": "2026-01-02T03:04:05.678901Z"}
    return event(kind, ids, header, {"msg_id": parent} if parent else {}, metadata or {}, content or {}, *buffers)


HUB, MUX, TASK, CONTROL, BROADCAST, FROM_MUX, FROM_TASK, FROM_CONTROL, FROM_BROADCAST, IOPUB = range(10)
ECHO, BEAT, WAIT, REPLY, PUBLISH, AGAIN = range(10, 16)


def joined(n, ours=True):
    """So many engines register and answer a beat."""
    for at in range(n):
        content = {"uuid": f"e{at}"} | ({"implementation": {"name": "prust"}} if ours else {"id": at})
        yield message(HUB, f"e{at}", "j", "registration_request", content)
        yield event(WAIT, b"\x00")
        yield event(BEAT, f"e{at}")


def query(name, **content):
    return message(HUB, "c0", "q", f"{name}_request", content)


def conversations():
    """What clients and engines say to a controller, in the order in which they say it."""
    ok, failed = {"status": "ok"}, {"status": "error"}
    # A client looks around, and runs something on one engine.
    yield [
        *joined(2),
        query("connection"),
        message(MUX, "c0,e0", "m1", "execute_request", {"code": "1", "silent": False}),
        event(PUBLISH, b"\x00", "status", {"execution_state": "busy"}),
        event(PUBLISH, b"\x00", "execute_input", {"code": "1", "execution_count": 1}),
        event(PUBLISH, b"\x00", "stream", {"name": "stdout", "text": "x"}),
        event(PUBLISH, b"\x00", "execute_result", {"data": {}, "metadata": {}, "execution_count": 1}),
        event(REPLY, b"\x00", ok, ok),
        event(PUBLISH, b"\x00", "status", {"execution_state": "idle"}),
        query("queue", targets=None, verbose=True),
        query("result", msg_ids=["m1"], status_only=False),
        query("history"),
        query("db", query={"msg_id": {"$in": ["m1"]}, "started": {"$exists": False}}, keys=["header", "buffers"]),
        query("resubmit", msg_ids=["m1"]),
        query("purge", msg_ids=["m1"], engine_ids=[0]),
        message(CONTROL, "c0,e0", "s1", "shutdown_request", {"restart": False}),
        message(FROM_CONTROL, "e0,c0", "s2", "shutdown_reply", ok, parent="s1", session="e0"),
        message(IOPUB, "engine.0.shutdown", "s3", "shutdown_reply", ok, parent="s1", session="e0"),
        query("shutdown"),
        event(WAIT, b"\x01\x00"),
    ]
    # Tasks that depend on each other, fail, run again, wait too long, are cancelled and aborted.
    retried = {"retries": 2, "time_limit": 1.5, "timeout": 9}
    yield [
        *joined(3, ours=False),
        message(TASK, "c0", "t1", "apply_request", {}, {"label": "x"}, buffers=("a", "b")),
        message(TASK, "c1", "t2", "execute_request", {"code": "2"}, retried | {"targets": ["e1", "e2"]}),
        message(TASK, "c0", "t3", "apply_request", {}, {"after": ["t1"], "follow": {"dependencies": ["t1", "t2"], "all": False}}),
        message(TASK, "c0", "t4", "apply_request", {}, {"after": {"dependencies": ["t2"], "success": False, "failure": True}}),
        event(REPLY, b"\x01", failed, failed),
        event(PUBLISH, b"\x02", "status", {"execution_state": "busy"}),
        event(REPLY, b"\x02", {"status": "error", "dependencies_met": False}, failed),
        event(REPLY, b"\x00", ok, ok),
        event(AGAIN),
        message(CONTROL, "c0,e1", "a1", "abort_request", {"msg_ids": ["t3", "t4"]}),
        query("cancel", msg_ids=["t2", "t4"]),
        event(WAIT, b"\x27\x10"),
        query("queue", targets=["e0", 1], verbose=False),
        message(HUB, "n", "u", "unregistration_request", {"id": 1, "cause": "killed"}),
        event(WAIT, b"\x01\x00"),
    ]
    # Broadcasts, one answer by one and together; an engine goes silent, and comes back.
    targets = {"targets": [["e0", 0], ["e1", 1], ["e9", 9]], "is_broadcast": True}
    answer = {"status": "ok", "original_msg_id": "b1", "is_coalescing": False}
    yield [
        *joined(2),
        message(BROADCAST, "c0", "b1", "execute_request", {"code": "3"}, targets),
        event(REPLY, b"\x00", answer, ok),
        event(REPLY, b"\x01", answer, ok),
        message(BROADCAST, "c0", "b2", "apply_request", {}, targets | {"is_coalescing": True}),
        event(REPLY, b"\x02", answer | {"original_msg_id": "b2"}, ok),
        message(MUX, "c0,e1", "m1", "apply_request"),
        message(TASK, "c0", "t1", "apply_request", {}, {"retries": 1}),
        message(TASK, "c0", "t2", "apply_request"),
        *(piece for _ in range(4) for piece in (event(WAIT, b"\x03\xe8"), event(BEAT, "e0"))),
        event(BEAT, "e1"),
        event(WAIT, b"\x03\xe8"),
        event(ECHO, "e1", "5"),
        message(HUB, "e1", "j", "registration_request", {"uuid": "e1"}),
        query("db", query={"label": {"$glob": "x*"}, "received": {"$lt": "2027-01-01T00:00:00Z"}}, keys=None),
        query("purge", msg_ids="all"),
    ]


def pickles():
    """What a stock client sends and a worker answers; the first byte says which, see `pickle/input.rs`."""
    ordered = collections.OrderedDict(a=1)
    values = [None, True, -3, 2**40, 2**70, 0.5, "é", b"ab", bytearray(b"c"), (1,), (1, 2, 3, 4), {"a": [1, None]}]
    values += [{1}, frozenset("a"), ordered, range(3), 1j, int, ["twice", ["twice"]], numpy.float32(1), numpy.arange(3)]
    values += [numpy.zeros((0, 2)), numpy.zeros(0), numpy.arange(4, dtype=">i2").reshape(2, 2).T, numpy.array(["a"])]
    values += [[numpy.zeros(2), (numpy.zeros(1),)], {"m": numpy.ones(1, bool)}]
    for value in values:
        for protocol in range(6):
            yield b"\x00" + pickle.dumps(value, protocol)
        yield b"\x02" + b"\xff".join(map(bytes, serialize_object(value)))
    for call in ((util._push, (), {"a": 5}), (util._pull, ("a",), {}), (util._pull, (["a", "b"],), {}), (len, ("a",), {})):
        yield b"\x01" + b"\xff".join(map(bytes, pack_apply_message(*call)))
    for tag in (0, 8, 12, 32, *range(33, 39)):
        yield bytes([3, tag, 8, 1]) + bytes(7) + bytes(range(16))


def main():
    folder = Path(sys.argv[1])
    for name, inputs in (
        ("cell", [END_OF_CELL.join(each).encode() for each in cells()]),
        ("bytes", messages()),
        ("cluster", (bytes([setup]) + b"\xfe".join(each) for setup in (0, 5, 14) for each in conversations())),
        ("pickle", pickles()),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / name / f"seed-{number:03}").write_bytes(data)


if __name__ == "__main__":
    main()
