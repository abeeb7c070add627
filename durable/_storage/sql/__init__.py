"""SQL in an object: a SQLite database whose pages are side records of the object.

Only this folder imports apsw, and it is imported at the first use of `ctx.storage.sql`.
"""
