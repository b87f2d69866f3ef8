"""What every Python test shares: a private Jupyter home, a kernel to talk to, toolchains to break, processes to watch."""
