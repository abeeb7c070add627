"""`python -m durable`."""

from durable.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
