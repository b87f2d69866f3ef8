"""A private place for a test run: its own HOME, Jupyter paths and kernelspec, so that nothing of the user's is read or
written. The compile cache is kept under target/, because building worker and base library anew for every run costs half
a minute and tests nothing new."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def binary():
    """The prust under test: PRUST_BIN, else the newest of target/debug and target/release."""
    if chosen := os.environ.get("PRUST_BIN"):
        return Path(chosen)
    built = [path for profile in ("debug", "release") if (path := ROOT / "target" / profile / "prust").exists()]
    if not built:
        raise FileNotFoundError("no prust binary: run `cargo build`, or name one in PRUST_BIN")
    return max(built, key=lambda path: path.stat().st_mtime)


@dataclass
class Home:
    """Where one test run lives. `environ` is what its processes are started with."""

    path: Path
    environ: dict

    @classmethod
    def make(cls, path, cache=ROOT / "target" / "test-cache"):
        environ = dict(os.environ)
        real_home = Path(environ.get("HOME", "/"))
        environ.setdefault("RUSTUP_HOME", str(real_home / ".rustup"))
        environ.setdefault("CARGO_HOME", str(real_home / ".cargo"))
        for stale in ("RUSTC", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "IPP_CLUSTER_ID", "IPP_CONNECTION_INFO"):
            environ.pop(stale, None)
        folders = {
            "HOME": path / "home",
            "IPYTHONDIR": path / "ipython",
            "JUPYTER_CONFIG_DIR": path / "config",
            "JUPYTER_DATA_DIR": path / "data",
            "JUPYTER_RUNTIME_DIR": path / "run",
            "XDG_CACHE_HOME": Path(cache),
        }
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        environ |= {name: str(folder) for name, folder in folders.items()}
        environ |= {
            "JUPYTER_PATH": str(path / "prefix" / "share" / "jupyter"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONWARNINGS": "ignore",
        }
        return cls(path, environ)

    def adopt(self):
        """Makes this process itself live here, for the Jupyter libraries that it imports."""
        os.environ.clear()
        os.environ.update(self.environ)

    def prust(self, *arguments, seconds=300, **changes):
        """Runs prust to its end and returns the completed process, its output as text."""
        return subprocess.run(
            [str(binary()), *map(str, arguments)],
            env=self.environ | changes,
            text=True,
            capture_output=True,
            timeout=seconds,
        )

    def install(self):
        """Installs the kernelspec under the private prefix. This also builds worker and base library where missing."""
        done = self.prust("install", "--prefix", self.path / "prefix", seconds=900)
        assert done.returncode == 0, f"prust install failed:\n{done.stdout}\n{done.stderr}"
        return self.path / "prefix" / "share" / "jupyter" / "kernels" / "prust"


def short_folder():
    """A fresh folder with a path short enough for Unix sockets."""
    return Path(tempfile.mkdtemp(prefix="prust-"))


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
