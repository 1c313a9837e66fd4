"""What every step of every package stands on: errors, artifacts, locations, progress, locks."""
