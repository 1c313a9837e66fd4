"""Who computes a training: this process alone, or several workers that do each step together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.base.errors import LongtailFailure
from trainer.base.keras2 import keras, tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import Part, TrainingData
from trainer.distributed.cluster import Cluster, require_divisible
from trainer.distributed.task_watch import listening, wait_for_all
from trainer.towers.recall_model import RecallModel

GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
"""What a collective operation ends with when a peer does."""

Callbacks = Sequence[keras.callbacks.Callback]


class Span(NamedTuple):
    """What one call of `fit` does: the periods `[first, last)` between two evaluations.

    Attributes:
      step: the number of steps done before.
      first: number of the first period.
      last: number of the one after the last.
      steps: steps of each period.
    """

    step: int
    first: int
    last: int
    steps: int


class SingleProcess:
    """One process: no strategy, nobody to agree with."""

    is_chief = True
    """Whether this process evaluates and writes."""
    part: Part | None = None
    """What it reads of each batch."""
    on_servers = False
    """Whether others read the batches, and tables lie on parameter servers."""

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Where the model is made."""
        yield

    def fit(
        self, model: RecallModel, examples: TrainingData, span: Span, callbacks: Callbacks
    ) -> None:
        """Trains from the model's step on, through the periods of a span."""
        model.fit(
            examples.dataset(span.step),
            initial_epoch=span.first,
            epochs=span.last,
            steps_per_epoch=span.steps,
            callbacks=list(callbacks),
            verbose=0,
        )

    def from_chief(self, value: int) -> int:
        """The chief's value, on every worker, when all have come here."""
        return value

    @contextlib.contextmanager
    def failures(self, model_dir: Path) -> Iterator[None]:
        """Around the steps: says in one line that another worker is gone."""
        yield


class Mirrored(SingleProcess):
    """Workers with a copy of the model each; gradients are added up before every step.

    `train.batch_size` is that of all of them together, so that a configuration means the same on
    one worker and on several: each embeds its part of a batch and scores it against the items of
    all (`trainer.base.replicas`).
    """

    def __init__(self, cluster: Cluster, config: TrainerSections) -> None:
        """Connects to the other workers, and waits until all are there.

        Raises:
          LongtailError: a batch cannot be divided among the workers.
          LongtailFailure: one of them has not come, or this one's address is taken.
        """
        require_divisible(config, cluster.num_workers, "workers")
        with listening(cluster):
            wait_for_all(cluster)
        self.is_chief, self._num_workers = cluster.is_chief, cluster.num_workers
        with connecting(cluster):
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver(cluster))
        replicas = strategy.num_replicas_in_sync
        require_divisible(config, replicas, "replicas (devices of all workers)")
        local = replicas // cluster.num_workers
        self.part = Part(strategy.extended._id_in_cluster * local, local, replicas)
        self._strategy = strategy
        self._per_execution = config.train.steps_per_execution
        self._sum = tf.function(self._summed, autograph=False)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Variables made here are mirrored, and alike on all replicas whoever assigns to them."""

        def alike(create: Any, **options: Any) -> Any:
            # What a step assigns besides the weights (frequencies, bank, momentum tower) every
            # replica computes from the whole batch: one of the results is as good as another.
            once = tf.VariableAggregation.ONLY_FIRST_REPLICA
            return create(**{**options, "aggregation": once})

        with self._strategy.scope(), tf.variable_creator_scope(alike):
            yield

    def fit(
        self, model: RecallModel, examples: TrainingData, span: Span, callbacks: Callbacks
    ) -> None:
        """Trains from the model's step on, each worker on its part of the batches.

        Not with Keras's loop of steps in the graph: there the sizes of what the replicas exchange
        would have to be the same in every step, and those of sparse gradients are not.
        """
        batches = iter(
            self._strategy.distribute_datasets_from_function(lambda _: examples.dataset(span.step))
        )

        @tf.function(autograph=False)
        def step() -> Any:
            return self._strategy.run(model.train_step, (next(batches),))

        def steps(number: int) -> dict[str, float]:
            losses = [step() for _ in range(number)][-1]
            return {name: float(value) for name, value in self._sum(losses).items()}

        run_periods(model, steps, span, self._per_execution, callbacks)

    def from_chief(self, value: int) -> int:
        """The chief's value, on every worker, when all have come here."""
        total = self._sum(tf.constant(value if self.is_chief else 0))
        return int(total) // (self.part.number if self.part else 1)

    @contextlib.contextmanager
    def failures(self, model_dir: Path) -> Iterator[None]:
        """Around the steps: says in one line that another worker is gone."""
        try:
            yield
        except GONE as error:
            raise LongtailFailure(
                f"another worker of the {self._num_workers} in TF_CONFIG is gone or cannot be "
                f"reached ({type(error).__name__}: {str(error).splitlines()[0][:200]}): start all of "
                f"them again with the same command; they go on from the newest checkpoint in {model_dir}"
            ) from error

    def _summed(self, values: Any) -> Any:
        return tf.nest.map_structure(
            lambda each: self._strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None), values
        )


def run_periods(
    model: RecallModel,
    steps: Callable[[int], dict[str, float]],
    span: Span,
    per_execution: int,
    callbacks: Callbacks,
) -> None:
    """Keras's `fit` for steps that are not its own: calls back after each execution of some steps.

    Args:
      model: what the callbacks see; `stop_training` ends it after a period.
      steps: does so many steps and returns the losses of the last.
      span: see `Span`.
      per_execution: steps between two calls of the callbacks.
      callbacks: in their order.
    """
    heard = keras.callbacks.CallbackList(list(callbacks), model=model)
    model.stop_training = False
    heard.on_train_begin()
    for period in range(span.first, span.last):
        heard.on_epoch_begin(period)
        losses: dict[str, float] = {}
        for done in range(0, span.steps, per_execution):
            heard.on_train_batch_begin(done)
            losses = steps(min(per_execution, span.steps - done))
            heard.on_train_batch_end(done, losses)
        heard.on_epoch_end(period, losses)
        if model.stop_training:
            break
    heard.on_train_end()


@contextlib.contextmanager
def connecting(cluster: Cluster) -> Iterator[None]:
    """Around what opens this task's address and looks for the other tasks.

    Raises:
      LongtailFailure: another program has the address, or a task that is needed never came.
    """
    try:
        yield
    except tf.errors.OpError as error:
        address = cluster.jobs[cluster.task][cluster.index]
        raise LongtailFailure(
            f"expected {cluster.task} {cluster.index} to listen at {address} and to reach the other "
            f"tasks in TF_CONFIG, received {type(error).__name__} ({error.message.splitlines()[0]})"
            ": see that the address is free and of this machine, and start all tasks together"
        ) from error


def resolver(cluster: Cluster) -> Any:
    """The cluster as TensorFlow's strategies take it."""
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({name: list(tasks) for name, tasks in cluster.jobs.items()}),
        task_type=cluster.task,
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
