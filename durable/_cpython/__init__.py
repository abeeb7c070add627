"""What is borrowed from CPython beyond what Python promises: one file each.

Each file says what it relies on, on which versions that was tried, and what it does without. With
`DURABLE_CPYTHON=0` in the environment, and on every other interpreter, each does without: slower or
less exact, and never wrong. ARCHITECTURE.md lists them under *What is borrowed*, with what is
borrowed from asyncio, anyio and Trio, which is in `_loop`.
"""
