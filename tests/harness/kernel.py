"""A kernel as a notebook sees it, through jupyter_client: start it, run cells, look at every message."""

import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_client.manager import KernelManager

from harness.deadline import Late
from harness.processes import new_mark

CELL_SECONDS = 90


@dataclass
class Cell:
    """A cell that has ended: its reply and all that was published for it, in order."""

    reply: dict
    messages: list = field(default_factory=list)

    @property
    def status(self):
        return self.reply["content"]["status"]

    @property
    def count(self):
        return self.reply["content"].get("execution_count")

    @property
    def kinds(self):
        """Message types in order, streams with their name, neighbours of one kind counted once."""
        kinds = []
        for message in self.messages:
            kind = message["msg_type"]
            if kind == "stream":
                kind = message["content"]["name"]
            elif kind == "status":
                kind = message["content"]["execution_state"]
            if not kinds or kinds[-1] != kind:
                kinds.append(kind)
        return kinds

    def stream(self, name):
        return "".join(
            message["content"]["text"]
            for message in self.messages
            if message["msg_type"] == "stream" and message["content"]["name"] == name
        )

    @property
    def stdout(self):
        return self.stream("stdout")

    @property
    def stderr(self):
        return self.stream("stderr")

    def of(self, *kinds):
        return [message for message in self.messages if message["msg_type"] in kinds]

    @property
    def text(self):
        """text/plain of the cell's value, or None."""
        results = self.of("execute_result")
        return results[-1]["content"]["data"]["text/plain"] if results else None

    @property
    def shown(self):
        """Everything a reader of the cell sees as text, in order."""
        parts = []
        for message in self.messages:
            content = message["content"]
            if message["msg_type"] == "stream":
                parts.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data", "update_display_data"):
                parts.append(content["data"].get("text/plain", ""))
            elif message["msg_type"] == "error":
                parts.append("\n".join(content["traceback"]))
        return "\n".join(parts)

    @property
    def error(self):
        """`ename: evalue` and the traceback as one text, or None."""
        content = self.reply["content"]
        if content["status"] != "error":
            return None
        return "\n".join([f"{content['ename']}: {content['evalue']}", *content["traceback"]])


class Running:
    """A cell that was sent and may still run."""

    def __init__(self, kernel, msg_id):
        self.kernel, self.msg_id, self.messages = kernel, msg_id, []

    def next(self, seconds=CELL_SECONDS):
        """The next message published for this cell."""
        end = time.monotonic() + seconds
        while True:
            try:
                message = self.kernel.client.get_iopub_msg(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Late(f"nothing more within {seconds} s; so far {self.messages}") from None
            if message["parent_header"].get("msg_id") == self.msg_id:
                self.messages.append(message)
                return message
            self.kernel.others.append(message)

    def until(self, test, seconds=CELL_SECONDS):
        """Reads until a message passes `test`, and returns it."""
        end = time.monotonic() + seconds
        while True:
            message = self.next(max(0.01, end - time.monotonic()))
            if test(message):
                return message

    def until_text(self, text, seconds=CELL_SECONDS):
        """Reads until the streams of the cell, put together, contain `text`."""
        return self.until(lambda _: text in Cell({}, self.messages).stdout, seconds)

    def finish(self, seconds=CELL_SECONDS):
        """Reads to the end: idle on iopub and the reply on shell."""
        if not any(is_idle(message) for message in self.messages):
            self.until(is_idle, seconds)
        return Cell(self.kernel.reply(self.msg_id, seconds), self.messages)


def is_idle(message):
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


class Kernel:
    """One kernel process and one client. A context manager: leaving it shuts the kernel down."""

    def __init__(self, name="prust", cwd=None, transport="tcp", **environ):
        self.mark = new_mark()
        self.others = []
        self.early_replies = {}
        self.manager = KernelManager(kernel_name=name, transport=transport)
        self.manager.start_kernel(env=os.environ | self.mark | environ, cwd=str(cwd or Path.cwd()))
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=60)
        except RuntimeError:
            self.close()
            raise

    @property
    def pid(self):
        return self.manager.provisioner.pid

    def send(self, code, cell_id=None, **options):
        """Sends a cell and returns at once. `cell_id` is what a notebook calls it, so that another run replaces this one."""
        options.setdefault("allow_stdin", False)
        if cell_id is None:
            return Running(self, self.client.execute(code, **options))
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": True}
        message = self.client.session.msg("execute_request", content | options, metadata={"cellId": cell_id})
        self.client.shell_channel.send(message)
        return Running(self, message["header"]["msg_id"])

    def run(self, code, seconds=CELL_SECONDS, **options):
        """Runs a cell to its end, whatever the end is."""
        return self.send(code, **options).finish(seconds)

    def ok(self, code, seconds=CELL_SECONDS, **options):
        """Runs a cell that has to succeed."""
        cell = self.run(code, seconds, **options)
        assert cell.status == "ok", f"cell failed:\n{code}\n{cell.error or cell.reply}"
        return cell

    def fails(self, code, *words, seconds=CELL_SECONDS, **options):
        """Runs a cell that has to end in an error whose text has each of `words`, and returns the cell."""
        cell = self.run(code, seconds, **options)
        assert cell.status == "error", f"expected an error of:\n{code}\ngot {cell.shown}"
        for word in words:
            assert word in cell.error, f"{word!r} is not in the error of:\n{code}\n{cell.error}"
        return cell

    def reply(self, msg_id, seconds=30):
        """The shell reply to a request."""
        end = time.monotonic() + seconds
        while msg_id not in self.early_replies:
            message = self.client.get_shell_msg(timeout=max(0.01, end - time.monotonic()))
            self.early_replies[message["parent_header"].get("msg_id")] = message
        return self.early_replies.pop(msg_id)

    def control(self, msg_type, content=None, seconds=10):
        """Sends a request on the control channel and returns its reply and the seconds it took."""
        start = time.monotonic()
        message = self.client.session.msg(msg_type, content or {})
        self.client.control_channel.send(message)
        while True:
            reply = self.client.get_control_msg(timeout=max(0.01, start + seconds - time.monotonic()))
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return reply, time.monotonic() - start

    def interrupt(self):
        self.manager.interrupt_kernel()

    def restart(self):
        """Starts the kernel anew, as the frontend's button does."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=60)

    def close(self):
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=False)
        self.manager.cleanup_resources()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
