"""One live object: its life, its line of deliveries, its commits."""
