"""Recall evaluation as a TFX component: the model and its baselines on the full corpus."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipelines.tfx.artifacts import gather, move_content
from pipelines.tfx.sections import parse, sections_of
from preprocessing.base.locations import reachable
from trainer.config.sections import TrainerSections


class Executor(base_executor.BaseExecutor):
    """Runs `trainer.evaluate.evaluate`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `RecallEvaluation`."""
        from trainer.evaluate import evaluate

        self._log_startup(input_dict, output_dict, exec_properties)
        config = parse(TrainerSections, exec_properties["config"])
        with tempfile.TemporaryDirectory() as scratch:
            graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
            data_dir = gather(graph, Path(scratch) / "data")
            run = reachable(artifact_utils.get_single_uri(input_dict["model_run"]))
            made = Path(scratch) / "evaluation"
            evaluate(config, data_dir, run, made, command="longtail pipeline run")
            move_content(made, reachable(artifact_utils.get_single_uri(output_dict["evaluation"])))


class RecallEvaluationSpec(component_spec.ComponentSpec):
    """What goes in and out of `RecallEvaluation`."""

    PARAMETERS = {  # noqa: RUF012  TFX reads them from the class
        "config": component_spec.ExecutionParameter(type=str)
    }
    INPUTS = {  # noqa: RUF012
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {  # noqa: RUF012
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation)
    }


class RecallEvaluation(base_component.BaseComponent):
    """metrics.json and report.html: model and baselines on the full corpus, by bucket."""

    SPEC_CLASS = RecallEvaluationSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        config: TrainerSections,
        *,
        model_run: types.BaseChannel,
        transform_graph: types.BaseChannel,
    ) -> None:
        """Takes the Trainer's run, which holds the weights, and what it was trained on."""
        super().__init__(
            spec=RecallEvaluationSpec(
                config=sections_of(config, TrainerSections),
                model_run=model_run,
                transform_graph=transform_graph,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )
