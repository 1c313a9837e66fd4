"""Longtail: layers."""
