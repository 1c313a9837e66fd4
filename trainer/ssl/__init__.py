"""Auxiliary tasks that learn without labels."""
