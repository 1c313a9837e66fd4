"""Pure functions: the mathematics of losses, corrections, masks, draws and metrics, each with its source."""
