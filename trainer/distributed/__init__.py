"""Training with more than one process: clusters, workers, parameter servers."""
