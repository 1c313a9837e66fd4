"""Longtail as components of a TFX pipeline (extra ``tfx``)."""
