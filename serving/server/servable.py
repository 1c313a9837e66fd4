"""One version of a model, loaded and run the way TF Serving does it: a TF1 session."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2

from preprocessing.base.optional import remedy
from serving.server.status import from_error_code, invalid

LOG = logging.getLogger("longtail.serving")
DEFAULT_SIGNATURE = "serving_default"
_WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MAX_WARMUP_RECORDS = 1000
# Fields that hold their default are shown too; protobuf 5 renamed the argument.
_WITH_DEFAULTS = {
    name: True
    for name in ("including_default_value_fields", "always_print_fields_with_no_presence")
    if name in inspect.signature(json_format.MessageToDict).parameters
}

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class Servable:
    """A loaded SavedModel. `run` may be called from several threads at once.

    Raises on construction whatever TensorFlow raises for a model that cannot be loaded
    (`tf.errors.OpError`, `OSError`, `RuntimeError`, `ValueError`).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        _register_scann_ops(path)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], path)
            self.signature_defs: dict[str, Any] = dict(meta_graph.signature_def)
            self._callables: dict[str, Any] = {}
            self._lock = threading.Lock()
            self._warm_up()
        except BaseException:
            self._session.close()
            raise

    def _callable(self, name: str, signature: Any) -> Any:
        with self._lock:
            if name not in self._callables:
                self._callables[name] = self._make_callable(signature)
            return self._callables[name]

    def _make_callable(self, signature: Any) -> Any:
        options = config_pb2.CallableOptions()
        options.feed.extend(signature.inputs[name].name for name in sorted(signature.inputs))
        options.fetch.extend(signature.outputs[name].name for name in sorted(signature.outputs))
        # Not Session.run: like TF Serving this checks no shapes, leaves the op's message alone, and
        # costs a third. The name is private, but the TensorFlow version is pinned (DESIGN.md, 5).
        return self._session._make_callable_from_options(options)

    def signature(self, name: str) -> Any:
        """The SignatureDef `name` ("" is serving_default); raises `StatusError` if unknown."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signature_defs:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        return self.signature_defs[name]

    def input_types(self, name: str) -> dict[str, tf.DType]:
        """The dtypes of a signature's inputs, by input name."""
        inputs = self.signature(name).inputs
        return {key: tf.dtypes.as_dtype(info.dtype) for key, info in inputs.items()}

    def run(self, signature_name: str, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """Runs a signature on arrays by input name; gives arrays by output name.

        Raises: `StatusError`, with the op's own message where the graph fails.
        """
        signature = self.signature(signature_name)
        expected, given = set(signature.inputs), set(inputs)
        if expected != given:
            raise invalid(
                f"input size does not match signature: {len(given)}!={len(expected)} "
                f"len({{{_join(given)}}}) != len({{{_join(expected)}}}). "
                f"Sent extra: {{{_join(given - expected)}}}. "
                f"Missing but required: {{{_join(expected - given)}}}."
            )
        try:
            call = self._callable(signature_name or DEFAULT_SIGNATURE, signature)
            values = call(*(inputs[name] for name in sorted(expected)))
        except tf.errors.OpError as error:
            raise from_error_code(error.error_code, error.message) from error
        return dict(zip(sorted(signature.outputs), map(np.asarray, values), strict=True))

    def metadata(self) -> dict[str, Any]:
        """The signature defs as TF Serving's metadata call shows them."""
        return {
            name: json_format.MessageToDict(
                signature, preserving_proto_field_name=True, **_WITH_DEFAULTS
            )
            for name, signature in self.signature_defs.items()
        }

    def close(self) -> None:
        """Frees the session; no `run` may be under way."""
        self._callables.clear()
        self._session.close()

    def _warm_up(self) -> None:
        """Replays the recorded requests; one that fails fails the load, as in TF Serving."""
        path = os.path.join(self.path, _WARMUP_FILE)
        if not tf.io.gfile.exists(path):
            return
        try:
            log_pb2 = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
        except ImportError:
            LOG.warning("warm-up skipped: tensorflow-serving-api is not installed (%s)", path)
            return
        replayed = 0
        for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator()):
            if number >= _MAX_WARMUP_RECORDS:
                raise ValueError(f"more than {_MAX_WARMUP_RECORDS} warm-up records in {path}")
            log = log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                LOG.warning("warm-up record %d skipped: not a predict_log (%s)", number, path)
                continue
            request = log.predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            self.run(request.model_spec.signature_name, inputs)
            replayed += 1
        LOG.info("replayed %d warm-up requests of %s", replayed, self.path)


def _join(names: set[str]) -> str:
    return ",".join(sorted(names))


def _register_scann_ops(path: str) -> None:
    """Imports `scann` if the graph holds its ops: importing it is what registers them."""
    graph_file = os.path.join(path, "saved_model.pb")
    if not tf.io.gfile.exists(graph_file):
        return  # the loader says it better
    with tf.io.gfile.GFile(graph_file, "rb") as file:
        if b"Scann>" not in file.read():  # cheaper than parsing the graph a second time
            return
    try:
        importlib.import_module("scann")
    except (ImportError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        LOG.warning("%s has ScaNN ops, which do not load (%s): %s", path, reason, remedy("scann"))
