"""Longtail: trainer."""
