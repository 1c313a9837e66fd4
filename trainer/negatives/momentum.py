"""An item tower that follows the trained one slowly, for embeddings that stay comparable."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.base.keras2 import tf
from trainer.base.variable_rows import read_rows, write_rows
from trainer.towers.towers import ItemTower


class MomentumTower(tf.Module):
    """theta' <- m theta' + (1 - m) theta after every step.

    Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR
    2020, equation 2. Rows of the embedding tables follow when a batch reads them, and only then:
    no step may cost a whole table, and a row that no batch reads does not change either.
    """

    def __init__(self, tower: ItemTower, follower: ItemTower, momentum: float) -> None:
        """Takes two towers with the same weights; the follower's are never trained.

        Args:
          tower: the trained one, its weights created.
          follower: a tower of the same configuration, its weights created; they are overwritten.
          momentum: m in (0, 1).
        """
        super().__init__(name="momentum_tower")
        self._followed, self._momentum = tower, momentum
        self._follower = follower
        follower.trainable = False
        self.catch_up()

    def catch_up(self) -> None:
        """Takes the weights of the trained tower as they are."""
        for ours, theirs in zip(self._follower.variables, self._followed.variables, strict=True):
            ours.assign(theirs)

    def embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`[B, dim]` without gradient."""
        # Said, since Keras hands the training of a layer around it on to whoever says nothing.
        return tf.stop_gradient(self._follower(features, training=False))

    def follow(self, features: Mapping[str, tf.Tensor]) -> None:
        """Moves the weights, of the tables the rows that `features` name."""
        live, slow = self._followed.embeddings, self._follower.embeddings
        for owner, indices in live.rows_read(features).items():
            ours, theirs = slow.tables[owner], live.tables[owner]
            mixed = self._mix(read_rows(ours, indices), read_rows(theirs, indices))
            write_rows(ours, mixed, indices)
        for ours, theirs in zip(
            self._follower.dense_weights, self._followed.dense_weights, strict=True
        ):
            ours.assign(self._mix(ours, theirs))

    def _mix(self, ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
        return self._momentum * ours + (1 - self._momentum) * theirs
