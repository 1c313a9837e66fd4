"""Longtail's index and exclusion around a model of one's own, as a SavedModel for TF Serving.

    python examples/index_and_signatures.py [--out FOLDER]

Writes FOLDER/movies/1, loads it as TF Serving does (a TF1 session), asks the embedded server, which
speaks TF Serving's REST API, and compares both with NumPy.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.client import RecallClient
from serving.export.exclusion import search_without
from serving.index.exact import ExactIndex
from serving.server.servable import Servable
from trainer.base.keras2 import keras, tf

NUM_USERS, NUM_ITEMS, DIM, K = 500, 2_000, 16, 10
SIZES = (("u", NUM_USERS), ("m", NUM_ITEMS))
TEXTS = tf.TensorSpec([None, None], tf.string)


class Recall(tf.Module):
    """Query tower, index and ids: all that the SavedModel holds lies in variables and tables.

    Args:
      tower: user row `[B]` -> `[B, D]`; row 0 is the unknown user.
      items: `[N + 1, D]` vectors of the catalogue; row 0 is padding and never answered.
      user_ids, item_ids: raw ids of the rows from 1.
    """

    def __init__(
        self,
        tower: keras.Model,
        items: NDArray[np.float32],
        user_ids: list[str],
        item_ids: list[str],
    ) -> None:
        super().__init__()
        self.tower = tower
        self.index = ExactIndex()  # or ScannIndex, of the same two methods
        self.index.build(items)
        self.users, self.rows = _table(user_ids), _table(item_ids)
        self.item_ids = tf.Variable(["", *item_ids], trainable=False)

    @tf.function(input_signature=[TEXTS, TEXTS])
    def recommend(self, user: tf.Tensor, exclude: tf.Tensor) -> dict[str, tf.Tensor]:
        """`user [B, 1]` and `exclude [B, n]` ids, "" for none -> `item_ids` and `scores [B, K]`."""
        queries = self.tower(self.users.lookup(user[:, 0]))
        # Unknown ids become row 0, which excludes nothing; the answer stays K items long.
        scores, rows = search_without(self.index, queries, self.rows.lookup(exclude), K)
        return {"item_ids": tf.gather(self.item_ids, rows), "scores": scores}


def _table(ids: list[str]) -> tf.lookup.StaticHashTable:
    rows = tf.range(1, len(ids) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(ids, rows), 0)


def asked(folder: Path, queries: list[dict[str, object]]) -> list[list[tuple[str, float]]]:
    """The answers of the embedded server on a free port."""
    command = [sys.executable, "-m", "serving.server", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(
                re.findall(r"http://[\d.]+:\d+", line) for line in server.stdout if ":" in line
            )
            with RecallClient(address[0], folder.name) as client:
                client.wait_ready()
                return client.recommend(queries)
        finally:
            server.terminate()


def main() -> None:
    """Makes a model, exports it, and asks it in two ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="default: a temporary folder")
    scratch = tempfile.TemporaryDirectory()
    folder = (parser.parse_args().out or Path(scratch.name)) / "movies"
    keras.utils.set_random_seed(0)
    user = keras.Input([], dtype="int64")
    # Where training would be: vectors at random are searched as well as any.
    tower = keras.Model(user, keras.layers.Embedding(NUM_USERS + 1, DIM, name="of_user")(user))
    items = np.random.default_rng(0).normal(size=[NUM_ITEMS + 1, DIM]).astype(np.float32)
    user_ids, item_ids = ([f"{kind}{n}" for n in range(1, size + 1)] for kind, size in SIZES)
    module = Recall(tower, items, user_ids, item_ids)
    tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": module.recommend})

    vector = tower.get_layer("of_user").embeddings.numpy()[7]
    order = np.argsort(-(items[1:] @ vector))
    best = [item_ids[row] for row in order[:K]]
    expected = [item_ids[row] for row in order[3 : 3 + K]]  # the best three are excluded below

    servable = Servable(str(folder / "1"))
    inputs = {
        "user": np.array([["u7"]], object),
        "exclude": np.array([[*best[:3], "unknown"]], object),
    }
    session = [name.decode() for name in servable.run("serving_default", inputs)["item_ids"][0]]
    servable.close()
    rest = asked(folder, [{"user": "u7", "exclude": best[:3]}, {"user": "u7"}])
    print("TF1 session equals NumPy:", session == expected)
    print("REST equals NumPy:", [item for item, _ in rest[0]] == expected)
    print("without exclusion:", [item for item, _ in rest[1]] == best, rest[1][:2])


if __name__ == "__main__":
    main()
