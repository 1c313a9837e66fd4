"""From a trained model to a numbered SavedModel, its checks, versions and labels: `python -m serving.export CONFIG`."""
