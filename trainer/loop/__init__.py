"""A training from start to end: building, continuing, checkpoints, callbacks, optimizers."""
