"""From a log and a catalogue to examples: TF-Transform on Beam. It imports no other package of Longtail.

Public: `preprocessing.run.preprocess`, and as a command `python -m preprocessing.run CONFIG`;
`preprocessing.features` with the feature list; `preprocessing.base.errors` with what every step raises.
"""
