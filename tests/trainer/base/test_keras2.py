"""The gate hands out Keras 2 or says why it cannot."""

from __future__ import annotations

import runpy
import sys
from types import SimpleNamespace

import pytest

from preprocessing.base.errors import LongtailError
from trainer.base import keras2


def test_hands_out_keras_2():
    assert keras2.keras.__version__.startswith("2.")
    assert issubclass(keras2.tfrs.tasks.Retrieval, keras2.keras.layers.Layer)


def test_refuses_keras_3_with_the_remedy(monkeypatch):
    keras_3 = SimpleNamespace(layers=SimpleNamespace(Layer=object))
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(keras=keras_3))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    with pytest.raises(
        LongtailError, match=r"received Keras 3 .*='0'.*run with TF_USE_LEGACY_KERAS=1"
    ):
        runpy.run_path(keras2.__file__)
