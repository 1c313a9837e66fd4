"""Longtail: serving."""
