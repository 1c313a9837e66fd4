"""Ranking the full corpus and measuring it: protocol, metrics by bucket, baselines, report."""
