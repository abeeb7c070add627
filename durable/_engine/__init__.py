"""What a store is, for every engine: its interface, batches, the committer, values as bytes."""
