"""What every room of the trainer stands on: Keras 2, replicas, rows of variables."""
