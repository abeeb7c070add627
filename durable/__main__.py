"""`python -m durable`."""

try:
    from durable.cli import main
except KeyboardInterrupt:  # Ctrl-C while it starts
    raise SystemExit(130) from None

if __name__ == "__main__":
    raise SystemExit(main())
