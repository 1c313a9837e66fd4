"""The only place that builds Beam pipelines: jobs, runners, what workers do."""
