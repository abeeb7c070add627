"""The wire: calls between the processes of a store, and all that belongs to them."""
