"""A journal before the file of a store: a commit is one synced write, and the file follows."""
