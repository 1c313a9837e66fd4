"""Training whose tables lie on parameter servers, for vocabularies beyond one machine's memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preprocessing.base.errors import LongtailError, LongtailFailure
from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.distributed.cluster import Cluster
from trainer.distributed.synchronous import (
    GONE,
    Callbacks,
    SingleProcess,
    Span,
    connecting,
    resolver,
    run_periods,
)
from trainer.distributed.task_watch import LOOK_SECONDS, TaskWatch, answers, wait_for_all
from trainer.towers.recall_model import RecallModel

_LINGER_SECONDS = 10.0
"""A coordinator on its way out still releases what it holds on the others, and waits for them."""


class OnParameterServers(SingleProcess):
    """The coordinator: hands steps to the workers, each on a batch of its own, and waits for none.

    Steps read weights that others are changing, so that a run cannot be repeated to the bit.
    `train.batch_size` is that of a step. Tables of `train.min_shard_bytes` and more are divided
    among the servers, as is the item table.
    """

    on_servers = True

    def __init__(self, cluster: Cluster, config: TrainerSections) -> None:
        """Connects to servers and workers.

        Raises:
          LongtailError: the configuration needs an order of the steps, of which there is none.
          LongtailFailure: one of them has not come; or see `connecting`.
        """
        _require_no_order(config)
        # TensorFlow would wait longer, and not say for whom.
        wait_for_all(cluster)
        # Else a call to a task that is gone waits for it without end.
        os.environ["GRPC_FAIL_FAST"] = "use_caller"
        with connecting(cluster):
            self._strategy = tf.distribute.ParameterServerStrategy(
                resolver(cluster),
                variable_partitioner=tf.distribute.experimental.partitioners.MinSizePartitioner(
                    min_shard_bytes=config.train.min_shard_bytes, max_shards=len(cluster.jobs["ps"])
                ),
            )
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(self._strategy)
        self._per_execution = config.train.steps_per_execution

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Variables made here lie on the servers."""
        with self._strategy.scope():
            yield

    def fit(
        self, model: RecallModel, examples: TrainingData, span: Span, callbacks: Callbacks
    ) -> None:
        """Trains from the model's step on; callbacks see a moment without steps under way."""
        coordinator, strategy = self._coordinator, self._strategy
        batches = iter(coordinator.create_per_worker_dataset(lambda: examples.dataset(span.step)))

        @tf.function(autograph=False)
        def step(batches: Any) -> Any:
            return strategy.run(model.train_step, (next(batches),))

        def steps(number: int) -> dict[str, float]:
            scheduled = [coordinator.schedule(step, args=(batches,)) for _ in range(number)]
            coordinator.join()
            return {name: float(value) for name, value in scheduled[-1].fetch().items()}

        run_periods(model, steps, span, self._per_execution, callbacks)

    @contextlib.contextmanager
    def failures(self, model_dir: Path) -> Iterator[None]:
        """Around the steps: says in one line that a server is gone; a lost worker may come back."""
        try:
            yield
        except GONE as error:
            raise LongtailFailure(
                f"a parameter server of TF_CONFIG is gone or cannot be reached "
                f"({type(error).__name__}): start all tasks again with the same command; they go "
                f"on from the newest checkpoint in {model_dir}"
            ) from error


def serve(cluster: Cluster, config: TrainerSections, is_done: Callable[[], bool]) -> None:
    """A worker or a server: does what the coordinator asks, until the model is finished.

    Args:
      cluster: of which this process is a worker or a server.
      config: that of the coordinator.
      is_done: whether the coordinator has written the finished model.

    Raises:
      LongtailError: the coordinator is going to refuse the configuration.
      LongtailFailure: the coordinator ended before, or never came (`trainer.distributed.task_watch`); or see
        `connecting`.
    """
    _require_no_order(config)
    spec = tf.train.ClusterSpec({name: list(tasks) for name, tasks in cluster.jobs.items()})
    with connecting(cluster):
        server = tf.distribute.Server(
            spec, job_name=cluster.task, task_index=cluster.index, protocol="grpc"
        )
    assert server.target
    (address,) = cluster.jobs["chief"]
    grace = config.train.grace_seconds
    lookout = TaskWatch("the coordinator (chief 0)", address, time.monotonic(), grace)
    while not is_done():
        lookout.note(answers(address), time.monotonic())
        time.sleep(LOOK_SECONDS)
    time.sleep(_LINGER_SECONDS)


def _require_no_order(config: TrainerSections) -> None:
    refused = {
        "loss.probabilities 'streamed'": config.loss.probabilities == "streamed",
        "negatives.memory": config.negatives.memory is not None,
        "negatives.known_positives 'remove'": config.negatives.known_positives == "remove",
        "train.continue_from": config.train.continue_from is not None,
    }
    found = [name for name, is_set in refused.items() if is_set]
    if found:
        raise LongtailError(
            "TF_CONFIG with parameter servers ('ps'): expected settings without an order of the "
            f"steps and without tables on each worker, received {', '.join(found)}; leave it out, "
            "or train on workers alone"
        )
