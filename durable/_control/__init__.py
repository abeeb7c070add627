"""The control socket of a running program: questions about what it does, and orders to it."""
