"""All steps together: the command `longtail`, TFX pipelines, Vertex AI, rollout, ablations.

Public: the command `longtail` (`pipelines.cli`, a function for each verb);
`pipelines.tfx.pipeline.create_pipeline` for a TFX pipeline of your own.
"""
