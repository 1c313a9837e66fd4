"""The two-tower model: losses, negatives, towers, training and evaluation. It imports `preprocessing` alone.

Public: `trainer.task.train` and `trainer.evaluate.evaluate`, and as commands `python -m trainer.task CONFIG`
and `python -m trainer.evaluate CONFIG`. For a model of your own (docs/in_your_own_model.md):
`trainer.losses.retrieval_task.RetrievalTask`, `trainer.negatives.frequency.FrequencyEstimator`,
`trainer.ssl.task.SelfSupervisedTask`, and the pure functions of `trainer.functional`.
"""
