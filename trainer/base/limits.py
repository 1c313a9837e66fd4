"""Bounds that the configuration and the mathematics share; no TensorFlow here."""

MAX_BUCKETS = 2**31
"""Of one hash of the frequency estimate: the upper 32 bits of a hash times their number must fit into 64 bits."""
