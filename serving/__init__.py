"""From a trained model to answers: the SavedModel with its index, the embedded server, a client.

Public: `serving.export.run.export`, and as a command `python -m serving.export CONFIG`;
`python -m serving.server EXPORT_DIR`; `serving.client`; the indexes of `serving.index`.
"""
