"""Longtail: pipelines."""
