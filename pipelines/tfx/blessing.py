"""The gates as a TFX component: a ModelBlessing where recall and index keep what they promise."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as evaluator
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from pipelines.config import RunConfig
from pipelines.rollout.gates import Check, Evidence, GatesConfig, Reference, check, is_blessed
from pipelines.rollout.references import references
from pipelines.tfx.artifacts import gather
from pipelines.tfx.earlier import Earlier, PushTarget
from pipelines.tfx.log_lines import LOG
from pipelines.tfx.sections import parse, sections_of
from preprocessing.base.locations import reachable
from preprocessing.base.progress import Stages
from trainer.config.sections import TrainerSections
from trainer.evaluation.per_query import PER_QUERY, of_gates, read_per_query, write_per_query

CHECKS = "checks.json"
"""In the blessing: every gate, what it expected and what it received."""


JUDGED = "current_model"
"""Property of the blessing, TFX's name: URI of the model that was judged."""


class Executor(evaluator.Executor):
    """Compares, and marks the blessing as TFX's Evaluator does.

    One of its kind, since on Vertex AI the ids of models in a blessing become the names by which
    the resolver looks for them, and TFX does that for Evaluator's executor alone.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `RecallGate`."""
        from serving.export.run import read_description
        from trainer.evaluate import METRICS, REPORT
        from trainer.evaluation.report.page import read_plots, render_html

        self._log_startup(input_dict, output_dict, exec_properties)
        gates = GatesConfig.model_validate_json(exec_properties["gates"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        blessed = next(iter(input_dict.get("blessed_model") or ()), None)
        serves = model_utils.is_infra_validated(
            artifact_utils.get_single_instance(input_dict["infra_blessing"])
        )
        evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
        metrics = json.loads(io_utils.read_string_file(f"{evaluation}/{METRICS}"))
        candidate = Evidence(metrics, read_per_query(reachable(evaluation) / PER_QUERY))
        found_before: list[Reference] = []
        if serves and gates.drops() and blessed is not None:
            config = parse(TrainerSections, exec_properties["config"])
            graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
            served = PushTarget.parse(exec_properties["served"])
            base = served.standing(blessed.uri)
            found_before = references(
                base if base != model.uri else None,
                served.best_blessed(gates, gates.k or metrics["ks"][-1]),
                besides=[model.uri],
                measure=lambda uri: _measured(config, graph, uri),
                name=lambda uri: uri,
                tell=LOG.warning,
            )
        index = read_description(reachable(path_utils.serving_model_path(model.uri)))["index"]
        answers = Check("the export loads and answers", "1", float(serves), serves)
        checks = [answers, *check(candidate, found_before, index, gates)]
        for each in checks:
            level, verdict = (logging.INFO, "kept") if each.passed else (logging.ERROR, "not kept")
            LOG.log(level, "gate %s: %s", verdict, each)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        found = [each.as_json() for each in checks]
        io_utils.write_string_file(f"{blessing.uri}/{CHECKS}", json.dumps(found, indent=1) + "\n")
        write_per_query(reachable(blessing.uri) / PER_QUERY, of_gates(candidate.by_query))
        drawn = read_plots(reachable(evaluation))
        page = render_html(metrics, index, checks=found, drawn=drawn)
        io_utils.write_string_file(f"{blessing.uri}/{REPORT}", page)
        _mark(blessing, is_blessed(checks), model, blessed)


def _measured(config: TrainerSections, transform_graph: str, blessed: str) -> Evidence:
    """The figures of an earlier model on this run's data."""
    from pipelines.rollout.baseline import comparing, measured_again
    from trainer.loop.continuation import Previous

    with tempfile.TemporaryDirectory() as scratch, comparing(blessed):
        data_dir = gather(transform_graph, Path(scratch) / "data")
        earlier = Earlier.of(blessed, Path(scratch) / "earlier")
        previous = Previous.open(earlier.work_dir)
        return measured_again(config, data_dir, previous, earlier.config, Stages())


def _mark(
    blessing: types.Artifact, good: bool, model: types.Artifact, before: types.Artifact | None
) -> None:
    """What Pusher and the resolver of blessed models read."""
    value = constants.BLESSED_VALUE if good else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    for of, name in ((model, JUDGED), (before, "baseline_model")):
        if of is not None:
            blessing.set_string_custom_property(name, of.uri)
            blessing.set_int_custom_property(f"{name}_id", of.id)
    name = constants.BLESSED_FILE_NAME if good else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")


class RecallGateSpec(component_spec.ComponentSpec):
    """What goes in and out of `RecallGate`."""

    PARAMETERS = {  # noqa: RUF012  TFX reads them from the class
        "config": component_spec.ExecutionParameter(type=str),
        "gates": component_spec.ExecutionParameter(type=str),
        "served": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "blessed_model": component_spec.ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing)
    }


class RecallGate(base_beam_component.BaseBeamComponent):
    """Blesses a model that serves and passes every gate: later runs compare with it, or go on from it.

    The blessed model before it, and the best of those pushed of late, are measured anew on this
    run's data: two figures from different days compare the days. Where that is this very model,
    there is nothing to compare.
    """

    SPEC_CLASS = RecallGateSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        config: RunConfig,
        *,
        model: types.BaseChannel,
        evaluation: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        transform_graph: types.BaseChannel,
        served: PushTarget,
        blessed_model: types.BaseChannel | None = None,
    ) -> None:
        """Takes the candidate with its figures, and the last blessed model if there is one.

        A model that was rolled back in `served` is not compared with: the one that serves is.
        """
        super().__init__(
            spec=RecallGateSpec(
                config=sections_of(config, TrainerSections),
                gates=config.gates.model_dump_json(),
                served=served.as_json(),
                model=model,
                evaluation=evaluation,
                infra_blessing=infra_blessing,
                transform_graph=transform_graph,
                blessed_model=blessed_model,
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
