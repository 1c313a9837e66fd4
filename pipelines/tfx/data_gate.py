"""Stops a pipeline whose data changed: TFDV's anomalies, and drift to what is served."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils

from pipelines.tfx.artifacts import gather
from pipelines.tfx.log_lines import LOG
from pipelines.tfx.sections import parse, sections_of
from pipelines.tfx.serving_log import as_examples, log_files, read_requests
from preprocessing.base.artifacts import file_fingerprint, fingerprint
from preprocessing.base.errors import LongtailFailure
from preprocessing.config import DataSections

_COMPARED = "train"


class Executor(base_executor.BaseExecutor):
    """Fails where anything is wrong; all of it is in the log."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `DataGate`.

        Raises:
          LongtailFailure: there are anomalies.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        found = _of_training(artifact_utils.get_single_instance(input_dict["anomalies"]))
        if exec_properties["serving_log"]:
            found |= self._drift(input_dict, exec_properties)
        for name, text in sorted(found.items()):
            LOG.error("anomaly in %s: %s", name, text)
        if found:
            first, text = sorted(found.items())[0]
            raise LongtailFailure(
                f"the data have {len(found)} anomalies, {first}: {text}; repair the source, or widen "
                "pipeline.drift_threshold, before a model learns from them"
            )
        artifact_utils.get_single_instance(output_dict["verdict"]).write("passed")

    def _drift(
        self, input_dict: dict[str, list[types.Artifact]], properties: dict[str, Any]
    ) -> dict[str, str]:
        """Feature -> in what the requests differ from the training examples."""
        import tensorflow_data_validation as tfdv
        from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory

        config = parse(DataSections, properties["config"])
        queries = read_requests(properties["serving_log"])
        with tempfile.TemporaryDirectory() as scratch:
            graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
            data_dir = gather(graph, Path(scratch) / "data")
            served = as_examples(queries, data_dir, config.feature_list)
        schema = io_utils.SchemaReader().read(
            io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(input_dict["schema"]))
        )
        names = set(served.schema.names) & {feature.name for feature in schema.feature}
        for name in names:
            comparator = tfdv.get_feature(schema, name).skew_comparator
            comparator.jensen_shannon_divergence.threshold = properties["drift_threshold"]
        options = tfdv.StatsOptions(schema=schema)
        columns = {name: served.column(name) for name in sorted(names)}
        serving = generate_statistics_in_memory(pa.RecordBatch.from_pydict(columns), options)
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        training = stats_artifact_utils.load_statistics(statistics, _COMPARED).proto()
        anomalies = tfdv.validate_statistics(training, schema, serving_statistics=serving)
        return {
            f"served {name}": info.description
            for name, info in anomalies.anomaly_info.items()
            if name in names
        }


def _of_training(artifact: types.Artifact) -> dict[str, str]:
    """Split and feature -> what TFDV found wrong."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2
    from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
    from tfx.dsl.io import fileio

    found = {}
    for split in artifact_utils.decode_split_names(artifact.split_names):
        path = f"{artifact_utils.get_split_uri([artifact], split)}/{DEFAULT_FILE_NAME}"
        with fileio.open(path, "rb") as file:
            anomalies = anomalies_pb2.Anomalies.FromString(file.read())
        for name, info in anomalies.anomaly_info.items():
            found[f"{split}, {name}"] = info.description
        if anomalies.HasField("dataset_anomaly_info"):
            found[split] = anomalies.dataset_anomaly_info.description
    return found


class DataGateSpec(component_spec.ComponentSpec):
    """What goes in and out of `DataGate`."""

    PARAMETERS = {  # noqa: RUF012  TFX reads them from the class
        "config": component_spec.ExecutionParameter(type=str),
        "serving_log": component_spec.ExecutionParameter(type=str),
        "serving_log_files": component_spec.ExecutionParameter(type=str),
        "drift_threshold": component_spec.ExecutionParameter(type=float),
    }
    INPUTS = {  # noqa: RUF012
        "anomalies": component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {  # noqa: RUF012
        "verdict": component_spec.ChannelParameter(type=standard_artifacts.String)
    }


class DataGate(base_component.BaseComponent):
    """Lets the pipeline go on where ExampleValidator found nothing and serving has not drifted away.

    Drift is the Jensen-Shannon divergence between the training examples and the requests of a log,
    feature by feature, as TFDV's skew comparator measures it.
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        config: DataSections,
        *,
        anomalies: types.BaseChannel,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        transform_graph: types.BaseChannel,
        serving_log: str | None,
        drift_threshold: float,
    ) -> None:
        """Takes TFX's own outputs; `serving_log` is a pattern of files, None for no comparison."""
        files = log_files(serving_log) if serving_log else []
        super().__init__(
            spec=DataGateSpec(
                config=sections_of(config, DataSections),
                serving_log=serving_log or "",
                serving_log_files=fingerprint([file_fingerprint(path) for path in files]),
                drift_threshold=drift_threshold,
                anomalies=anomalies,
                statistics=statistics,
                schema=schema,
                transform_graph=transform_graph,
                verdict=types.Channel(type=standard_artifacts.String),
            )
        )
