"""Plays a random session to a real kernel and holds every cell to what the model says of it."""

import random
import re

from author import Author
from session import Session

from harness.deadline import Late

N_CELLS = 12
LOOKS_EVERY = 4
# A cell that takes longer is stuck.
SECONDS = 120
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Differs(AssertionError):
    """The kernel and the model do not agree."""


def cells(seed, n_cells=N_CELLS):
    """The cells of a session, what the model says of each, and the names of its variables then."""
    author = Author(random.Random(seed), Session())
    for number in range(1, n_cells + 1):
        cell, outcome = author.next()
        yield cell, outcome, author.session
        if number % LOOKS_EVERY == 0 or number == n_cells:
            cell, outcome = author.look()
            yield cell, outcome, author.session


def play(kernel, seed, n_cells=N_CELLS):
    """Plays one session. Raises `Differs` with the transcript so far."""
    transcript = [f"seed {seed}"]
    clear = kernel.run("%clear", SECONDS, store_history=False)
    if clear.status != "ok":
        raise Differs(f"seed {seed}: %clear fails:\n{clear.error}")
    for cell, outcome, session in cells(seed, n_cells):
        transcript.append(f"In:  {cell.text.strip()}" + (f"\n     (cellId {cell.key})" if cell.key else ""))
        try:
            ran = kernel.run(cell.text, SECONDS, cell_id=cell.key or None)
            compare(ran, outcome)
            if not cell.command and cell.statements:
                compare_names(kernel, session)
        except (Late, Differs) as why:
            raise Differs("\n".join([*transcript, "", str(why)])) from None
        transcript.append(f"     {outcome.status} {outcome.stdout.strip()}".replace("\n", "\n     "))


def compare(ran, outcome):
    seen = f"status: {ran.status}\nstdout:\n{ran.stdout}\nstderr:\n{ran.stderr}\nerror:\n{ran.error}"
    if ran.status != outcome.status:
        raise Differs(f"the model says {outcome.status}\n{ANSI.sub('', seen)}")
    if ran.stdout != outcome.stdout:
        raise Differs(f"the model's text:\n{outcome.stdout}\n{ANSI.sub('', seen)}")
    if ran.status == "ok":
        text = ANSI.sub("", ran.stderr)
        for name in outcome.old_values:
            if not re.search(rf"`{name}` \(.*\) is of the old `", text):
                raise Differs(f"nothing is said of the old value {name}\n{text}")
        for name in outcome.keeps_old:
            title = name.split("::")[0].removesuffix("!")
            if not re.search(rf"`{re.escape(title)}.*` \(.*\) (does not compile with this|uses `)", text):
                raise Differs(f"nothing is said of `{title}`, which keeps an old definition\n{text}")
        titles = {name.split("::")[0].removesuffix("!") for name in outcome.keeps_old}
        for title in re.findall(r"`(.*)` \(In\[\d+\]\) does not compile with this: ", text):
            if title not in titles:
                raise Differs(f"`{title}` is told of, and goes on as it did\n{text}")


def compare_names(kernel, session):
    """`%vars` tells the same names as the model."""
    shown = kernel.run("%vars", SECONDS, store_history=False).shown
    lines = [] if "no variables" in shown else shown.splitlines()[1:]
    names = {re.match(r"(?:mut )?(\w+)", line)[1]: line.startswith("mut ") for line in lines if line.strip()}
    wanted = {name: held.mutable for name, held in session.variables.items()}
    if names != wanted:
        raise Differs(f"the model's variables: {wanted}\n%vars: {names}\n{shown}")
