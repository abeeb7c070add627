"""`python -m durable.testing.simulation`: run seeds, and replay those that fail."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from . import BACKENDS, Outcome, simulate


def main() -> int:
    """Run the seeds of the command line; returns 1 if one breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m durable.testing.simulation")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="replay this seed, and print its history")
    which.add_argument("--seeds", metavar="A-B", type=_range, help="run the seeds from A to B")
    parser.add_argument("--backend", choices=BACKENDS, default="asyncio")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(simulate(asked.seed, asked.backend))
    return _run_all(asked.seeds, asked.backend)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _replay(outcome: Outcome) -> int:
    print("\n".join(outcome.lines))
    _print_violations(outcome)
    return int(not outcome.is_good)


def _run_all(seeds: range, backend: str) -> int:
    failed = 0
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome = simulate(seed, backend)
        counts.update(outcome.counts)
        if not outcome.is_good:
            failed += 1
            _print_violations(outcome)
            print(f"replay: {_command(outcome)}", flush=True)
    figures = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
    print(f"{len(seeds):,} seeds on {backend}, {failed} broke a promise; {figures}")
    return int(failed > 0)


def _print_violations(outcome: Outcome) -> None:
    for violation in outcome.violations:
        print(f"seed {outcome.seed} on {outcome.backend}: {violation}")


def _command(outcome: Outcome) -> str:
    return f"python -m durable.testing.simulation --seed {outcome.seed} --backend {outcome.backend}"


if __name__ == "__main__":
    sys.exit(main())
