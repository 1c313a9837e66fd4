"""Preprocessing as a TFX component on Beam: raw files or Examples in, standard artifacts out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypeVar

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types.experimental.simple_artifacts import Dataset

from pipelines.tfx.artifacts import SPLITS, scatter
from pipelines.tfx.sections import parse, sections_of
from preprocessing.base.locations import reachable
from preprocessing.config import DataSections, TableConfig
from preprocessing.run import data_fingerprint, preprocess

Sections = TypeVar("Sections", bound=DataSections)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs `preprocessing.run.preprocess` and divides what it writes."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `Preprocessing`."""
        self._log_startup(input_dict, output_dict, exec_properties)
        config = parse(DataSections, exec_properties["config"])
        if input_dict.get("log"):
            config = reading_log(config, artifact_utils.get_single_uri(input_dict["log"]))
        out = {name: artifact_utils.get_single_instance(a) for name, a in output_dict.items()}
        # Within what this execution owns: what a kill leaves is below no other artifact.
        item_table = reachable(out["item_table"].uri)
        item_table.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=item_table) as scratch:
            data_dir = Path(scratch) / "data"
            preprocess(config, data_dir, beam_options=self._beam_pipeline_args or ())
            scatter(
                data_dir,
                **{name: out[name].uri for name in ("examples", "transform_graph", "item_table")},
            )
        out["examples"].split_names = artifact_utils.encode_split_names(list(SPLITS))


class PreprocessingSpec(component_spec.ComponentSpec):
    """What goes in and out of `Preprocessing`."""

    INPUTS = {  # noqa: RUF012  TFX reads it from the class
        "log": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True)
    }
    OUTPUTS = {  # noqa: RUF012
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "item_table": component_spec.ChannelParameter(type=Dataset),
    }
    PARAMETERS = {  # noqa: RUF012
        "config": component_spec.ExecutionParameter(type=str),
        "sources": component_spec.ExecutionParameter(type=str),
    }


class Preprocessing(base_beam_component.BaseBeamComponent):
    """Log, catalogue and users to examples, transform graphs and item table.

    A run with the same configuration and the same files is answered from TFX's cache.
    """

    SPEC_CLASS = PreprocessingSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, config: DataSections, *, log: types.BaseChannel | None = None) -> None:
        """Sets the component up; reads the names, sizes and times of change of the sources.

        Args:
          config: sections of preprocessing.
          log: interactions as an artifact of an ExampleGen, instead of `data.interactions`.

        Raises:
          LongtailError: a source does not exist.
        """
        channels = {
            "examples": types.Channel(type=standard_artifacts.Examples),
            "transform_graph": types.Channel(type=standard_artifacts.TransformGraph),
            "item_table": types.Channel(type=Dataset),
            **({} if log is None else {"log": log}),
        }
        super().__init__(
            spec=PreprocessingSpec(
                config=sections_of(config, DataSections),
                sources=data_fingerprint(config, with_log=log is None),
                **channels,
            )
        )


def reading_log(config: Sections, uri: str) -> Sections:
    """The configuration with the log of an Examples artifact."""
    log = TableConfig(path=f"{uri}/Split-*/*", format="tfrecord")
    return config.model_copy(update={"data": config.data.model_copy(update={"interactions": log})})
