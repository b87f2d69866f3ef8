"""Writes what fuzzing starts from: the cells of the transcripts and notebooks, and some messages and files."""

import json
import sys
from pathlib import Path

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


def main():
    folder = Path(sys.argv[1])
    for name, inputs in (("cell", [END_OF_CELL.join(each).encode() for each in cells()]), ("bytes", messages())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / name / f"seed-{number:03}").write_bytes(data)


if __name__ == "__main__":
    main()
