"""What the model reads of the catalogue: untrained, and in no checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.trainer.synthetic import ITEMS
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.item_column import ItemColumn
from trainer.loop.build import build_model
from trainer.loop.run_state import RunState

Configure = Callable[..., TrainerSections]


def test_rows_are_read_eagerly_and_in_a_graph() -> None:
    column = ItemColumn(np.array([[0, 0], [1, 2], [3, 4]], np.int32))
    expected = [[3, 4], [0, 0]]
    assert column.read([2, 0]).numpy().tolist() == expected
    in_graph = tf.function(column.read, autograph=False)
    assert in_graph(tf.constant([2, 0])).numpy().tolist() == expected


def test_the_item_table_is_neither_trained_nor_in_a_checkpoint(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    # Histories, the popularity coordinate and the exact probabilities read columns.
    model = build_model(configure(towers={"dim": 8, "popularity": {}}), data_dir)
    columns = {id(column.variable) for column in model.item_table.features.values()}
    assert {id(variable) for variable in model.query_tower.item_variables} < columns
    assert not columns & {id(variable) for variable in model.trainable_variables}
    RunState(model, tmp_path, keep=1).save()
    model.weights_checkpoint().write(str(tmp_path / "weights"))
    for path in (tf.train.latest_checkpoint(str(tmp_path / "checkpoints")), tmp_path / "weights"):
        shapes = [shape for _, shape in tf.train.list_variables(str(path))]
        assert [ITEMS + 2, 8] in shapes  # the table of ids, with its hashed row and padding
        assert not [shape for shape in shapes if shape[:1] == [ITEMS + 1]]


def test_a_checkpoint_that_holds_it_is_gone_on_with(
    data_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    """As parameter servers once wrote them."""
    config = configure()
    older = build_model(config, data_dir)
    older.query_tower.item_values = older.item_table.features["product"].variable
    older.optimizer.iterations.assign(3)
    RunState(older, tmp_path, keep=1).save()
    state = RunState(build_model(config, data_dir), tmp_path, keep=1)
    assert state.restore() and state.step == 3
