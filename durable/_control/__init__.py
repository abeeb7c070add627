"""The control socket: where a running program is asked what it does."""
