"""The losses of the retrieval task; their mathematics is in `trainer.functional`."""
