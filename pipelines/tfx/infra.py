"""Infra validation as a TFX component: load the export as TF Serving does, replay its warm-up.

TFX's own InfraValidator wants Docker or Kubernetes beside the pipeline; this one wants neither.
"""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils, path_utils

from pipelines.tfx.log_lines import LOG
from preprocessing.base.locations import reachable

_BLESSED = {1: "INFRA_BLESSED", 0: "INFRA_NOT_BLESSED"}


class Executor(base_executor.BaseExecutor):
    """Blesses a model that loads and answers."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `InfraValidation`."""
        from serving.server.servable import Servable
        from serving.server.status import StatusError
        from trainer.base.keras2 import tf

        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict["model"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        blessed = 1
        try:
            Servable(str(reachable(path_utils.serving_model_path(model.uri)))).close()
        except (StatusError, tf.errors.OpError, OSError, RuntimeError, ValueError) as error:
            LOG.error("%s does not serve: %s", model.uri, str(error).splitlines()[0])
            blessed = 0
        io_utils.write_string_file(f"{blessing.uri}/{_BLESSED[blessed]}", "")
        blessing.set_int_custom_property("blessed", blessed)


class InfraValidationSpec(component_spec.ComponentSpec):
    """What goes in and out of `InfraValidation`."""

    PARAMETERS: dict[str, Any] = {}  # noqa: RUF012  TFX reads them from the class
    INPUTS = {  # noqa: RUF012
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model)
    }
    OUTPUTS = {  # noqa: RUF012
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)
    }


class InfraValidation(base_component.BaseComponent):
    """`model` to an InfraBlessing, which Pusher asks for."""

    SPEC_CLASS = InfraValidationSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, *, model: types.BaseChannel) -> None:
        """Takes the Trainer's `model`."""
        blessing = types.Channel(type=standard_artifacts.InfraBlessing)
        super().__init__(spec=InfraValidationSpec(model=model, blessing=blessing))
