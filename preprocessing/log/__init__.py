"""From rows of the log to splits, histories and examples."""
