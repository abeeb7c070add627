"""What a store is, whoever keeps it: its interface, batches, the committer, values as bytes."""
