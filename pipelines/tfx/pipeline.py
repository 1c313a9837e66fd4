"""The pipeline: preprocess, look at the data, train, evaluate, try to serve, fit what was held out, push."""

from __future__ import annotations

from collections.abc import Sequence

from tfx import components, types
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import standard_artifacts

from pipelines.config import RunConfig
from pipelines.tfx.blessing import RecallGate
from pipelines.tfx.curated_schema import CuratedSchema
from pipelines.tfx.data_gate import DataGate
from pipelines.tfx.earlier import PushTarget
from pipelines.tfx.evaluation import RecallEvaluation
from pipelines.tfx.final_fit import FinalFit
from pipelines.tfx.infra import InfraValidation
from pipelines.tfx.preprocessing import Preprocessing
from pipelines.tfx.pushing import WholePush
from pipelines.tfx.training import RUN_FN, custom_config
from preprocessing.base.errors import LongtailError

_UNCHECKED = ["validation", "test"]
"""Splits of queries, which have other columns than training examples."""


def beam_arguments(config: RunConfig) -> list[str]:
    """Beam's options for every component that runs on it; one given by hand wins.

    None where Beam's own runner is meant. For any at all TFX copies itself to a temporary folder and packages that, in
    each component anew, for workers on other machines.
    """
    options = config.preprocess.beam_options
    if config.preprocess.runner == "DirectRunner" and not options:
        return []
    return [f"--runner={config.preprocess.runner}", *options]


def create_pipeline(
    config: RunConfig,
    *,
    pipeline_name: str,
    pipeline_root: str,
    push_directory: str,
    metadata_path: str | None = None,
    beam_pipeline_args: Sequence[str] = (),
    log: BaseNode | None = None,
) -> Pipeline:
    """All components, made anew at each call: TFX binds a component to one pipeline.

    Args:
      config: the whole configuration; each component keeps the sections that it reads, so a
        change of `gates` trains nothing anew.
      pipeline_name: runs of one name share cache and blessed models.
      pipeline_root: of all artifacts.
      push_directory: the folder of versions that a server watches.
      metadata_path: SQLite file, where the runner has no metadata of its own.
      beam_pipeline_args: Beam's options, of preprocessing and statistics.
      log: an ExampleGen whose `examples` are the interactions, instead of `data.interactions`.

    Raises:
      LongtailError: a source or the schema does not exist, or the configuration continues another run.
    """
    _check_continuation(config)
    served = PushTarget.now(push_directory, config.rollout.label)
    made = Preprocessing(config, log=log.outputs["examples"] if log else None)
    examples, graph = made.outputs["examples"], made.outputs["transform_graph"]
    statistics = components.StatisticsGen(examples=examples, exclude_splits=_UNCHECKED)
    schema: BaseNode
    if config.pipeline.schema_file is None:
        schema = components.SchemaGen(
            statistics=statistics.outputs["statistics"], exclude_splits=_UNCHECKED
        )
    else:
        schema = CuratedSchema(config.pipeline.schema_file)
    anomalies = components.ExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        exclude_splits=_UNCHECKED,
    )
    gate = DataGate(
        config,
        anomalies=anomalies.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        transform_graph=graph,
        serving_log=config.pipeline.serving_log,
        drift_threshold=config.pipeline.drift_threshold,
    )
    blessed = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=types.Channel(type=standard_artifacts.Model),
        model_blessing=types.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("LatestBlessedModel")
    trainer = components.Trainer(
        run_fn=RUN_FN,
        examples=examples,
        transform_graph=graph,
        schema=schema.outputs["schema"],
        base_model=blessed.outputs["model"] if config.pipeline.continue_blessed else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
        custom_config=custom_config(config, served if config.pipeline.continue_blessed else None),
    )
    trainer.add_upstream_node(gate)
    evaluation = RecallEvaluation(
        config, model_run=trainer.outputs["model_run"], transform_graph=graph
    )
    infra = InfraValidation(model=trainer.outputs["model"])
    verdict = RecallGate(
        config,
        model=trainer.outputs["model"],
        evaluation=evaluation.outputs["evaluation"],
        infra_blessing=infra.outputs["blessing"],
        transform_graph=graph,
        served=served,
        blessed_model=blessed.outputs["model"],
    )
    fit = None
    if config.train.final_fit != "none":
        fit = FinalFit(
            config,
            model=trainer.outputs["model"],
            model_blessing=verdict.outputs["blessing"],
            served=served,
            log=log.outputs["examples"] if log else None,
        )
    pusher = components.Pusher(
        model=fit.outputs["fitted_model"] if fit else trainer.outputs["model"],
        model_blessing=verdict.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=served.directory)
        ),
        custom_config={"label": served.label},
        custom_executor_spec=ExecutorClassSpec(WholePush),
    )
    nodes = [
        made, statistics, schema, anomalies, gate, blessed,
        trainer, evaluation, infra, verdict, *([fit] if fit else []), pusher,
    ]  # fmt: skip
    connection = metadata_path and metadata.sqlite_metadata_connection_config(metadata_path)
    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[log, *nodes] if log else nodes,
        enable_cache=config.pipeline.cache,
        metadata_connection_config=connection or None,
        beam_pipeline_args=list(beam_pipeline_args),
    )


def _check_continuation(config: RunConfig) -> None:
    if config.train.continue_from is not None:
        raise LongtailError(
            "train.continue_from: expected none in a pipeline, whose artifacts are not those of a "
            f"run, received {config.train.continue_from}; pipeline.continue_blessed: true goes on "
            "from the model that the pipeline blessed last"
        )
    method = config.preprocess.split.method
    if config.pipeline.continue_blessed and method != "global_time":
        raise LongtailError(
            "pipeline.continue_blessed: expected preprocess.split.method global_time, received "
            f"{method}; new events can only be told from old ones by time"
        )
