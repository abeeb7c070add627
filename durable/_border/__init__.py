"""What crosses an object's border, and what its author sees of it."""
