"""Toolchains made for a test: a mirror of the installed one whose rustc writes down its calls, or that lacks a file."""

import os
import shutil
import subprocess
from pathlib import Path


class Toolchain:
    """A folder that looks like the installed toolchain, made of links. `environ` makes prust use it."""

    def __init__(self, folder, without=(), environ=None):
        self.folder, self.log = Path(folder), Path(folder) / "calls.log"
        real = Path(ask(["rustc", "--print", "sysroot"], environ))
        mirror(real / "lib", self.folder / "lib", without)
        (self.folder / "bin").mkdir()
        for tool in (real / "bin").iterdir():
            if tool.name != "rustc":
                (self.folder / "bin" / tool.name).symlink_to(tool)
        self.rustc = self.folder / "bin" / "rustc"
        self.rustc.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "$(echo "$*" | tr "\\n" " ")" >> "{self.log}"\n'
            f'case "$*" in *--sysroot*) exec "{real}/bin/rustc" "$@" ;; esac\n'
            f'exec "{real}/bin/rustc" --sysroot "{self.folder}" "$@"\n'
        )
        self.rustc.chmod(0o755)
        self.log.touch()

    @property
    def environ(self):
        return {"RUSTC": str(self.rustc), "PATH": f"{self.rustc.parent}:{os.environ['PATH']}"}

    def compilations(self):
        """The rustc calls so far that made something: questions about the toolchain are not counted."""
        calls = self.log.read_text().splitlines()
        return [call for call in calls if "--print" not in call and "-vV" not in call and "--version" not in call]


def mirror(real, copy, without):
    """Links every file below `real` into `copy`, except those whose name matches a pattern of `without`."""
    copy.mkdir(parents=True)
    for entry in real.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            mirror(entry, copy / entry.name, without)
        elif not any(entry.match(pattern) for pattern in without):
            (copy / entry.name).symlink_to(entry)


def ask(command, environ=None):
    return subprocess.run(command, text=True, capture_output=True, check=True, env=environ).stdout.strip()


def empty_path(folder):
    """A PATH that has a shell's everyday tools but no rustc and no cargo."""
    folder = Path(folder)
    folder.mkdir()
    for tool in ("sh", "bash", "env", "cc", "ld", "python3"):
        if real := shutil.which(tool):
            (folder / tool).symlink_to(real)
    return str(folder)

