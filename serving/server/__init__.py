"""The embedded server: TF Serving's REST API. `python -m serving.server EXPORT_DIR`."""
