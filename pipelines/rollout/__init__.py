"""Gates, labels and the final fit: from a candidate to the version that answers."""
