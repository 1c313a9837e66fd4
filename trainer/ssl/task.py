"""The auxiliary task: recognise an item by two partial views of its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from preprocessing.base.errors import LongtailError
from trainer.base import replicas
from trainer.base.keras2 import keras, tf
from trainer.functional import losses, masks

Augmentation = Literal["random_mask", "value_dropout", "complementary", "correlated"]
Features = Mapping[str, tf.Tensor]


@keras.utils.register_keras_serializable(package="longtail")
class SelfSupervisedTask(keras.layers.Layer):
    """L_self of two augmented views of a batch of items; the model adds alpha * L_self.

    Without labels every item of the table teaches the item tower, also one that nobody bought: draw
    the batch uniformly from the table and not from the log.

    Source: Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021,
    section 3; the augmentations are those of `trainer.functional.masks`.

    Args:
      augmentation: how the two views come about.
      mask_features: the k features that may be masked (or lose values). Views agree in all
        other features, so an id among those would give the answer away.
      temperature: tau > 0 of the contrastive softmax.
      mask_rate: in [0, 1]; probability of masking a feature ("random_mask") or of dropping a
        value ("value_dropout"); the other two do not use it.
      mutual_information: `[k, k]` in the order of `mask_features`, for "correlated".
      per_item: "complementary" and "correlated" draw a mask per item, not one per batch.
      seed: makes the masks of a step repeatable.
      **layer_options: `name`, `dtype`, `trainable` of the Keras layer.

    Raises:
      LongtailError: an argument is impossible.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        mask_features: Sequence[str],
        *,
        temperature: float = 0.1,
        mask_rate: float = 0.5,
        mutual_information: Any = None,
        per_item: bool = False,
        seed: int = 0,
        **layer_options: Any,
    ) -> None:
        super().__init__(**layer_options)
        self._check(augmentation, mask_features, temperature, mask_rate, mutual_information)
        self.augmentation = augmentation
        self.mask_features = tuple(mask_features)
        self.temperature = float(temperature)
        self.mask_rate = float(mask_rate)
        self.per_item = per_item
        self.seed = int(seed)
        self._mutual_information: NDArray[np.float64] | None = None
        if augmentation == "correlated":
            try:
                self._mask_table = masks.correlated_mask_table(mutual_information)
            except ValueError as error:
                raise LongtailError(str(error)) from error
            self._mutual_information = np.asarray(mutual_information, np.float64)

    def call(
        self,
        features: Features,
        *,
        item_tower: Callable[[Features], tf.Tensor],
        step: int | tf.Tensor,
    ) -> tf.Tensor:
        """Computes L_self of a batch of items; a replica of several embeds its part of them.

        Args:
          features: name -> `[m]` or `[m, n]`, integer indices (0 = padding) or floats; all that the
            tower reads. Masked integers become 0, masked floats 0.0.
          item_tower: maps such features of 2m items to embeddings `[2m, D]`. Called once, because
            one call of 2m rows is faster than two, and batch statistics then see both views.
          step: number of the training step; a step draws the same masks whenever it is repeated.
            In a `tf.function` pass a tensor: a Python number traces anew for each step.

        Returns:
          Scalar loss, a mean over the items.

        Raises:
          LongtailError: a feature to mask is not there, or "value_dropout" without a multi-valued
            (integer `[m, n]`) feature among them.
        """
        missing = [name for name in self.mask_features if name not in features]
        if missing:
            raise LongtailError(
                f"mask_features: expected names among the item features {sorted(features)}, "
                f"received {missing}"
            )
        view_a, view_b = self.views(features, step)
        both = {
            name: tf.concat([replicas.own_part(view[name]) for view in (view_a, view_b)], axis=0)
            for name in features
        }
        embeddings_a, embeddings_b = tf.split(item_tower(both), 2, axis=0)
        return losses.contrastive(embeddings_a, replicas.own_first(embeddings_b), self.temperature)

    def views(self, features: Features, step: int | tf.Tensor) -> tuple[Features, Features]:
        """The two augmented views of `features`, each of the same names, types and shapes."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        if self.augmentation == "value_dropout":
            seed_a, seed_b = _split(seed, 2)
            return self._drop_values(features, seed_a), self._drop_values(features, seed_b)
        num_items = tf.shape(features[self.mask_features[0]])[0]
        num_features = len(self.mask_features)
        if self.augmentation == "random_mask":
            mask_a, mask_b = (
                masks.random_mask(num_items, num_features, self.mask_rate, part)
                for part in _split(seed, 2)
            )
        elif self.augmentation == "complementary":
            mask_a, mask_b = masks.complementary_masks(
                num_items, num_features, seed, per_item=self.per_item
            )
        else:
            mask_a, mask_b = masks.correlated_masks(
                self._mask_table, num_items, seed, per_item=self.per_item
            )
        return self._blank(features, mask_a), self._blank(features, mask_b)

    def _blank(self, features: Features, mask: tf.Tensor) -> Features:
        blanked = {
            name: masks.mask_values(features[name], mask[:, column])
            for column, name in enumerate(self.mask_features)
        }
        return {**features, **blanked}

    def _drop_values(self, features: Features, seed: tf.Tensor) -> Features:
        names = [
            name
            for name in self.mask_features
            if features[name].shape.rank == 2 and features[name].dtype.is_integer
        ]
        if not names:
            raise LongtailError(
                "augmentation 'value_dropout': expected at least one multi-valued feature (integer "
                f"[items, values]) in mask_features, received {list(self.mask_features)} with one "
                "value each; list a feature of kind 'multi' or 'text', or choose another "
                "augmentation"
            )
        dropped = {
            name: masks.value_dropout(features[name], self.mask_rate, part)
            for name, part in zip(names, _split(seed, len(names)), strict=True)
        }
        return {**features, **dropped}

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the task, as plain JSON values."""
        relatedness = self._mutual_information
        return {
            **super().get_config(),
            "augmentation": self.augmentation,
            "mask_features": list(self.mask_features),
            "temperature": self.temperature,
            "mask_rate": self.mask_rate,
            "mutual_information": None if relatedness is None else relatedness.tolist(),
            "per_item": self.per_item,
            "seed": self.seed,
        }

    @staticmethod
    def _check(
        augmentation: str,
        mask_features: Sequence[str],
        temperature: float,
        mask_rate: float,
        mutual_information: Any,
    ) -> None:
        if augmentation not in get_args(Augmentation):
            raise LongtailError(
                f"augmentation: expected one of {get_args(Augmentation)}, received {augmentation!r}"
            )
        if not temperature > 0:
            raise LongtailError(f"temperature: expected a number above 0, received {temperature}")
        if not 0 <= mask_rate <= 1:
            raise LongtailError(f"mask_rate: expected 0 to 1, received {mask_rate}")
        k = len(mask_features)
        if k != len(set(mask_features)):
            raise LongtailError(
                f"mask_features: expected distinct names, received {list(mask_features)}"
            )
        least = 2 if augmentation in ("complementary", "correlated") else 1
        if k < least:
            raise LongtailError(
                f"mask_features: augmentation {augmentation!r} expected at least {least}, received "
                f"{list(mask_features)}"
            )
        if augmentation == "correlated" and (
            mutual_information is None or len(mutual_information) != k
        ):
            received = None if mutual_information is None else len(mutual_information)
            raise LongtailError(
                f"mutual_information: augmentation 'correlated' expected a [{k}, {k}] matrix in "
                f"the order of mask_features, received {received} rows; take it from the "
                "preprocessing output"
            )


def _split(seed: tf.Tensor, number: int) -> list[tf.Tensor]:
    """Independent seeds `[2]` from one."""
    return list(tf.unstack(tf.random.experimental.stateless_split(seed, number)))
