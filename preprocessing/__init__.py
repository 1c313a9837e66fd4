"""Longtail: preprocessing."""
