"""Shards: which process should own which, and how calls find the owner."""
