"""What goes between the processes of a store: calls, and all that comes of them."""
