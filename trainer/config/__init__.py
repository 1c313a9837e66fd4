"""The sections of the configuration that the trainer reads."""
