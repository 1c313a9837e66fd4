"""`longtail ablate`: ways to train, compared."""
