"""What the tests of losses and corrections share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainer.base.keras2 import tf

BOTH = pytest.mark.parametrize("run", [lambda f: f, tf.function], ids=["eager", "graph"])
"""Calls a function as it is, and as a graph."""
MASKED = float(np.finfo(np.float32).min) / 2
"""What a masked score holds, written down anew."""


def value_and_gradient(
    loss: Callable[[tf.Tensor], tf.Tensor], scores: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A loss and its gradient with respect to the scores."""
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = loss(scores)
    return value, tape.gradient(value, scores)
