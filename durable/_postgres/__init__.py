"""One engine: a store as tables of a PostgreSQL database."""
