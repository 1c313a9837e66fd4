"""The final fit as a TFX component: the model that is pushed learns what validation and test held out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipelines.config import Paths, RunConfig
from pipelines.tfx.earlier import Earlier, PushTarget
from pipelines.tfx.log_lines import LOG
from pipelines.tfx.preprocessing import reading_log
from pipelines.tfx.sections import parse, sections_of
from preprocessing.base.locations import reachable
from serving.config import ServingSections


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs `pipelines.rollout.final_fit.fitted` on the artifacts of a blessed model."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `FinalFit`."""
        from pipelines.rollout.final_fit import fitted, wanted
        from preprocessing.base.progress import Stages
        from serving.export.run import read_description

        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict["model"])
        blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
        if not model_utils.is_model_blessed(blessing):
            LOG.info("nothing is fitted: the model was not blessed")
            return
        config = parse(ServingSections, exec_properties["config"])
        if input_dict.get("log"):
            config = reading_log(config, artifact_utils.get_single_uri(input_dict["log"]))
        evaluated = reachable(path_utils.serving_model_path(model.uri))
        own = reachable(artifact_utils.get_single_uri(output_dict["fitted_model"]))
        target = reachable(path_utils.serving_model_path(str(own)))
        own.mkdir(parents=True, exist_ok=True)
        made = wanted(config, read_description(evaluated)["fingerprint"])
        there = _made_before(own, made, PushTarget.parse(exec_properties["served"]))
        with tempfile.TemporaryDirectory(dir=own) as scratch:
            if there:
                LOG.info("the final fit is there already: %s", there)
                version = Path(scratch) / "version"
                shutil.copytree(there, version)
            else:
                earlier = Earlier.of(model.uri, Path(scratch) / "run")
                version = fitted(
                    config,
                    Paths(earlier.work_dir, config.name),
                    evaluated,
                    Stages().console,
                    min_index_recall=exec_properties.get("min_index_recall"),
                    beam_options=self._beam_pipeline_args or (),
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(version, target)


def _made_before(own: Path, fingerprint: str, served: PushTarget) -> Path | None:
    """The same fit of an execution before, or among the versions: a new blessing of one model fits nothing anew."""
    from pipelines.rollout.rollout import is_made_of, served_version

    for other in own.parent.iterdir():
        path = Path(path_utils.serving_model_path(str(other)))
        if is_made_of(path, fingerprint):
            return path
    return served_version(reachable(served.directory), fingerprint)


class FinalFitSpec(component_spec.ComponentSpec):
    """What goes in and out of `FinalFit`."""

    INPUTS = {  # noqa: RUF012  TFX reads them from the class
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "log": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "fitted_model": component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    PARAMETERS = {  # noqa: RUF012
        "config": component_spec.ExecutionParameter(type=str),
        "served": component_spec.ExecutionParameter(type=str),
        "min_index_recall": component_spec.ExecutionParameter(type=float, optional=True),
    }


class FinalFit(base_beam_component.BaseBeamComponent):
    """A blessed `model` to the `fitted_model` that is pushed; writes nothing where the model was not blessed.

    Earlier models, comparisons and continued trainings stay with the evaluated one, which has not
    seen the test split of the days after.
    """

    SPEC_CLASS = FinalFitSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        config: RunConfig,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        served: PushTarget,
        log: types.BaseChannel | None = None,
    ) -> None:
        """Takes the Trainer's `model` with its blessing, and the log where an ExampleGen gives it."""
        recall = config.gates.min_index_recall
        super().__init__(
            spec=FinalFitSpec(
                config=sections_of(config, ServingSections),
                served=served.as_json(),
                **({} if recall is None else {"min_index_recall": recall}),
                model=model,
                model_blessing=model_blessing,
                **({} if log is None else {"log": log}),
                fitted_model=types.Channel(type=standard_artifacts.Model),
            )
        )
