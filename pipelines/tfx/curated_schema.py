"""TFX's ImportSchemaGen, run anew when the file has changed: TFX itself knows it by its path alone."""

from __future__ import annotations

from tfx import types
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base import base_component
from tfx.types import component_spec, standard_artifacts, standard_component_specs

from preprocessing.base.artifacts import file_fingerprint, fingerprint
from preprocessing.base.errors import LongtailError
from preprocessing.base.locations import reachable


class CuratedSchemaSpec(standard_component_specs.ImportSchemaGenSpec):
    """What goes in and out of `CuratedSchema`."""

    PARAMETERS = {  # noqa: RUF012  TFX reads it from the class
        **standard_component_specs.ImportSchemaGenSpec.PARAMETERS,
        "schema_file_state": component_spec.ExecutionParameter(type=str),
    }


class CuratedSchema(ImportSchemaGen):
    """A schema.pbtxt that people keep."""

    SPEC_CLASS = CuratedSchemaSpec

    def __init__(self, schema_file: str) -> None:
        """Takes the file.

        Raises:
          LongtailError: it does not exist.
        """
        path = reachable(schema_file)
        if not path.is_file():
            raise LongtailError(
                f"pipeline.schema_file: expected a schema.pbtxt, found no file {schema_file}; the one "
                "that SchemaGen infers is a good beginning"
            )
        spec = CuratedSchemaSpec(
            schema_file=schema_file,
            schema_file_state=fingerprint(file_fingerprint(path)),
            schema=types.Channel(type=standard_artifacts.Schema),
        )
        base_component.BaseComponent.__init__(self, spec=spec)
