"""A step on several replicas reads rows of tables, never a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEP = """
import sys
from pathlib import Path
import numpy as np
from tests.trainer.synthetic import make_config
from trainer.loop.build import build_model
from trainer.data.input_fn import TrainingData
from trainer.base.keras2 import tf
from trainer.base.variable_rows import read_rows

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
data_dir, work_dir = map(Path, sys.argv[1:])

with strategy.scope():
    table = tf.Variable(np.arange(12.0).reshape(6, 2))

def learn():
    context = tf.distribute.get_replica_context()
    with tf.GradientTape() as tape:
        rows = read_rows(table, tf.constant([4, 1, 4]))
        loss = tf.reduce_sum(rows) * tf.cast(1 + context.replica_id_in_sync_group, rows.dtype)
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.IndexedSlices)
    return rows, gradient.values, gradient.indices

for run in (strategy.run, tf.function(strategy.run)):
    for number, (rows, values, indices) in enumerate(
        zip(*(strategy.experimental_local_results(each) for each in run(learn))), 1
    ):
        np.testing.assert_array_equal(rows, [[8, 9], [2, 3], [8, 9]])
        np.testing.assert_array_equal(values, np.full([3, 2], number))
        np.testing.assert_array_equal(indices, [4, 1, 4])

config = make_config(work_dir, loss={"probabilities": "streamed"}, train={"batch_size": 32})
with strategy.scope():
    model = build_model(config, data_dir)
    model.optimizer.build(model.trainable_variables)
batch = next(iter(TrainingData(data_dir, config).dataset(0)))
step = tf.function(lambda batch: strategy.run(model.train_step, (batch,)), autograph=False)
operations = step.get_concrete_function(batch).graph.get_operations()
read = {tuple(each.outputs[0].shape) for each in operations if each.type == "ReadVariableOp"}
gathers = [each for each in operations if each.type == "ResourceGather"]
embeddings = (model.item_tower.embeddings, model.query_tower.embeddings)
tables = {tuple(t.shape) for each in embeddings for t in each.tables.values()}
columns = {tuple(column.variable.shape) for column in model.item_table.features.values()}
stream = {tuple(model.negatives.frequency.interval.shape)}
assert read and len(gathers) >= 2 * len(tables | columns | stream)
assert not read & (tables | columns | stream), read & (tables | columns | stream)
print("no table is read")
"""


@pytest.mark.slow
def test_a_step_of_two_replicas_reads_no_table(root: Path, data_dir: Path, tmp_path: Path) -> None:
    # In a process of its own: TensorFlow divides the CPU only before it starts.
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(data_dir), str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("no table is read\n")
