"""What one object remembers: its keys and values, and its alarm."""
