"""One engine: a store as LMDB files in a folder."""
