"""Observers and debug mode."""
