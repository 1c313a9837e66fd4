"""Where a step's candidates come from, and how probable each of them was."""
