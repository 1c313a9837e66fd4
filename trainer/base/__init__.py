"""What every room of the trainer stands on: the gate to Keras, replicas, rows of variables."""
