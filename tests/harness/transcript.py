"""Transcripts of notebooks: what a person types and what they see. Reads the files of `tests/behaviour` and plays their
rows to a kernel. `tests/behaviour/README.md` tells how they are written."""

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.deadline import Late
from harness.kernel import Cell, is_idle

TITLE = re.compile(r"([CD]?\d+[a-z]?)\. (\S.*)")
STEP = re.compile(r"([A-Z][a-z]+|[a-z]+)(?: (\d))?:(?: +(.*))?")
MARGIN = 8
# A cell that takes longer is stuck; only one that builds crates comes near.
SECONDS = 30
TYPED = {"In", "Stop", "Types", "Tab", "Look", "Enter", "Past", "Kernel"}
SEEN = {"Out", "stdout", "stderr", "warns", "error", "shows", "asks", "gives", "never", "see", "builds"}
# Answered by a reply of its own, not by what a cell shows.
ASKED = {"Tab", "Look", "Enter", "Past"}
ORDERED = {"Out", "stdout", "shows"}
# A display that follows a build of crates, updated as it goes.
BUILD = re.compile(r"^(update of )?\[\S+-dep-\d+\]")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Step:
    kind: str
    text: str
    line: int
    # What the notebook calls the cell, where that is said.
    cell: str = ""


@dataclass
class Row:
    """One behaviour: its number, what is promised, and the transcript."""

    number: str
    title: str
    path: Path
    line: int
    steps: list = field(default_factory=list)

    @property
    def name(self):
        return f"{self.number}-{re.sub(r'[^a-z0-9]+', '-', self.title.lower()).strip('-')}"


def rows(path):
    """The rows of a file, in order."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if title := TITLE.fullmatch(line):
            found.append(Row(title[1], title[2], path, number))
        elif not found or line.startswith("#"):
            continue
        elif step := STEP.fullmatch(line):
            if step[1] not in TYPED | SEEN:
                raise SyntaxError(f"{path.name}:{number}: a transcript knows no `{step[1]}:`")
            found[-1].steps.append(Step(step[1], line[MARGIN:].rstrip(), number, step[2] or ""))
        elif line.startswith(" " * MARGIN) or not line.strip():
            if found[-1].steps:
                found[-1].steps[-1].text += "\n" + line[MARGIN:].rstrip()
        else:
            raise SyntaxError(f"{path.name}:{number}: neither a row nor a step: {line}")
    for row in found:
        for step in row.steps:
            step.text = step.text.rstrip("\n")
    return found


def pattern(wanted):
    return ".*?".join(re.escape(part) for part in wanted.split("..."))


def fits(wanted, text):
    """Whether the text is the wanted one, where `...` stands for anything."""
    return fits_all([wanted], text)


def fits_all(wanted, text):
    """Whether the text is the wanted ones, one after another."""
    return re.fullmatch(r"\n?".join(map(pattern, wanted)), text.rstrip(), re.S) is not None


def in_order(wanted, text):
    """Whether all lines of `wanted` are in the text, one after another."""
    at = 0
    for line in filter(None, (line.strip() for line in wanted.splitlines())):
        if not (found := re.compile(pattern(line)).search(text, at)):
            return False
        at = found.end()
    return True


class Player:
    """Plays one row. A cell has ended before the next step that needs it ended, and everything it has shown is compared
    with what the transcript says, in order."""

    def __init__(self, row, kernel, root):
        self.row, self.kernel, self.root = row, kernel, root
        self.cell, self.ended, self.asked, self.given = None, None, False, ""
        self.wanted, self.step = [], None
        self.counts = {}

    def play(self):
        for self.step in self.row.steps:
            kind = self.step.kind
            if kind in TYPED:
                typed = kind
            if kind == "never" and typed in ASKED:
                if self.step.text in self.given:
                    self.fail(f"gives {self.step.text!r}: {self.given}")
            elif kind in ("Out", "stdout", "stderr", "warns", "error", "shows", "never", "builds"):
                self.wanted.append(self.step)
            else:
                getattr(self, "do_" + kind.lower())(self.step.text)
        self.step = None
        self.end()

    def fail(self, why, step=None):
        step = step or self.step
        at = f"{self.row.path.name}:{step.line if step else self.row.line}"
        raise AssertionError(f"{at}: row {self.row.number}, {self.row.title}\n{why}\n\nthe cell shows:\n{self.seen()}")

    # What a person does.

    def do_in(self, text):
        self.end()
        cell_id = f"{self.row.number}-{self.step.cell}" if self.step.cell else None
        self.cell, self.ended = self.kernel.send(text, cell_id=cell_id, allow_stdin=True), None

    def do_stop(self, _):
        self.see_so_far()
        self.asked = False
        self.kernel.interrupt()

    def do_types(self, text):
        self.asked = False
        self.kernel.client.input(text)

    def do_kernel(self, what):
        self.end()
        assert what == "restarts", what
        self.kernel.restart()

    def do_tab(self, text):
        reply = self.ask("complete", text)
        self.given = "\n".join(reply["matches"])

    def do_look(self, text):
        self.given = self.ask("inspect", text)["data"].get("text/plain", "nothing")

    def do_enter(self, text):
        self.settle()
        reply = self.kernel.reply(self.kernel.client.is_complete(text))["content"]
        self.given = " ".join(filter(None, [reply["status"], repr(reply.get("indent", "")) if "indent" in reply else ""]))

    def do_past(self, text):
        self.settle()
        options = {"hist_access_type": "search", "pattern": text} if text else {"hist_access_type": "tail", "n": 3}
        reply = self.kernel.reply(self.kernel.client.history(raw=True, output=False, **options))["content"]
        self.given = "\n".join(entry[2] for entry in reply["history"])

    def ask(self, what, text):
        self.settle()
        code, cursor = text.replace("|", "", 1), text.index("|")
        return self.kernel.reply(getattr(self.kernel.client, what)(code, cursor))["content"]

    def settle(self):
        if not self.asked:
            self.end()

    # What a person sees.

    def do_see(self, text):
        """The behaviour needs more than a notebook: another test shows it."""
        path, _, name = text.partition("::")
        if not (self.root / path).is_file() or f" {name}(" not in (self.root / path).read_text():
            self.fail(f"there is no test {text}")

    def do_gives(self, text):
        lines = set(self.given.splitlines())
        missing = [line for line in text.splitlines() if "..." not in line and line not in lines]
        if "..." in text and not fits(text, self.given) and not in_order(text, self.given):
            missing.append(text)
        if missing:
            self.fail(f"not given: {missing}\ngiven: {self.given}")

    def do_asks(self, text):
        try:
            question = self.kernel.client.get_stdin_msg(timeout=SECONDS)["content"]
        except Exception as error:
            raise Late(f"no question came for row {self.row.number}") from error
        asked = question["prompt"] + (" (hidden)" if question["password"] else "")
        if not fits(text, asked):
            self.fail(f"asked: {asked!r}")
        self.asked = True
        self.see_so_far()

    def see_so_far(self):
        """What the transcript has said so far is seen while the cell runs."""
        while not all(self.has(step) for step in self.wanted):
            if is_idle(self.cell.next(SECONDS)):
                self.end()
                self.fail("the cell has ended already")

    def has(self, step):
        texts = [text for kind, text in self.outputs() if kind == step.kind]
        return any(fits(step.text + "...", text) for text in texts)

    def end(self):
        """The cell ends, and has shown what the transcript says and nothing else."""
        if self.cell is None:
            return
        if self.asked:
            self.fail("the cell still asks")
        try:
            self.ended = ended = self.cell.finish(SECONDS)
        except Late as late:
            self.fail(f"the cell does not end: {late}")
        if ended.count is not None:
            self.counts.setdefault(ended.count, len(self.counts) + 1)
        self.compare(ended)
        self.cell, self.wanted = None, []

    def compare(self, ended):
        outputs, wanted = self.outputs(ended), list(self.wanted)
        shown = "\n".join(text for _, text in outputs)
        for step in [step for step in wanted if step.kind == "never"]:
            wanted.remove(step)
            if step.text in shown:
                self.fail(f"shows {step.text!r}", step)
        for step in [step for step in wanted if step.kind == "builds"]:
            progress = [text for _, text in outputs if BUILD.search(text)]
            if progress and not fits("..." + step.text, progress[-1]):
                self.fail(f"wanted a build that ends with: {step.text}", step)
            outputs = [pair for pair in outputs if not BUILD.search(pair[1])]
        self.compare_order([pair for pair in outputs if pair[0] in ORDERED], [step for step in wanted if step.kind in ORDERED])
        for kind in ("stderr", "warns", "error"):
            self.compare_text(kind, [step for step in wanted if step.kind == kind], outputs)

    def compare_order(self, outputs, steps):
        """Values, displays and text on stdout come in the order in which the transcript has them."""
        groups = []
        for step in steps:
            if step.kind == "stdout" and groups and groups[-1][0].kind == "stdout":
                groups[-1].append(step)
            else:
                groups.append([step])
        for (kind, text), group in zip(outputs, groups):
            if kind != group[0].kind or not fits_all([step.text for step in group], text):
                self.fail(f"wanted {group[0].kind}: {group[-1].text}\ngot    {kind}: {text}", group[0])
        if len(outputs) != len(groups):
            self.fail(f"wanted {len(groups)} outputs, got {len(outputs)}")

    def compare_text(self, kind, steps, outputs):
        text = "".join(text for other, text in outputs if other == ("stderr" if kind == "warns" else kind))
        if kind == "stderr" and not steps and any(step.kind == "warns" for step in self.wanted):
            return
        for step in steps:
            right = fits(step.text, text) if kind == "stderr" else in_order(step.text, text)
            if not right:
                self.fail(f"wanted {kind}: {step.text}\ngot: {text}", step)
        if not steps and text and kind != "warns":
            self.fail(f"unexpected {kind}: {text}")

    def outputs(self, ended=None):
        """Kind and text of all outputs so far, neighbours of one stream as one."""
        found = []
        for message in self.cell.messages:
            content, kind = message["content"], message["msg_type"]
            if kind == "stream":
                add(found, content["name"], content["text"])
            elif kind == "execute_result":
                found.append(("Out", bundle_text(content["data"])))
            elif kind in ("display_data", "update_display_data"):
                mark = "update of " if kind.startswith("update") else ""
                name = content.get("transient", {}).get("display_id")
                mark += f"[{name}] " if name else ""
                found.append(("shows", mark + bundle_text(content["data"])))
            elif kind == "clear_output":
                found.append(("shows", "nothing any more"))
        error = (ended or Cell({"content": {"status": ""}})).error
        if error is not None:
            found.append(("error", error))
        return [(kind, self.own_numbers(ANSI.sub("", text))) for kind, text in found]

    def own_numbers(self, text):
        """The cells of the row are In[1], In[2] and so on."""
        return re.sub(r"In\[(\d+)\]", lambda label: f"In[{self.counts.get(int(label[1]), label[1])}]", text)

    def seen(self):
        if self.cell is None:
            return "(nothing runs)"
        return "\n".join(f"{kind}: {text}" for kind, text in self.outputs(self.ended))


def add(found, kind, text):
    """Appends text to the stream's latest part, over parts of the other stream, but not over displays."""
    for at in range(len(found) - 1, -1, -1):
        if found[at][0] not in ("stdout", "stderr"):
            break
        if found[at][0] == kind:
            found[at] = (kind, found[at][1] + text)
            return
    found.append((kind, text))


def bundle_text(data):
    """A MIME bundle as the person sees it: the richest form with its type, plain text as it is."""
    rich = [mime for mime in data if mime != "text/plain"]
    if not rich:
        return data["text/plain"]
    mime = rich[0]
    value = data[mime]
    if mime.startswith("image/") and mime != "image/svg+xml":
        value = f"{len(base64.b64decode(value))} bytes"
    return f"{mime} {value}"
