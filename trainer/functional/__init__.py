"""Longtail: functional."""
