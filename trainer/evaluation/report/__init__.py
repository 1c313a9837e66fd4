"""The pages that people read of an evaluation."""
