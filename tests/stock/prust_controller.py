"""A pytest plugin for ipyparallel's own tests: their controller is prust's. Their engines and clients stay their own."""

from harness.home import binary
from ipyparallel.cluster import launcher

launcher.ipcontroller_cmd_argv[:] = [str(binary()), "controller"]
