"""Where artifacts are run and measured: this machine, and machines that are reached over SSH."""
