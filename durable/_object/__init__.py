"""One live object: its keeper, what the author's code sees of it, and what goes in and out."""
