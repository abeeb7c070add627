"""Shards: which process should have which, and how calls find the one that has it."""
