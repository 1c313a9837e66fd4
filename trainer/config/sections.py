"""The sections of the configuration that training and evaluation read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from preprocessing.base.variants import name_of
from preprocessing.config import DataSections
from preprocessing.features import Section
from preprocessing.split_config import Fraction
from trainer.config.baselines import ALSConfig, NeighboursConfig
from trainer.config.history import HistoryConfig
from trainer.config.loss import PSEUDO_EVENTS, LossConfig, NegativesConfig, PriorConfig
from trainer.evaluation.baselines.registry import BASELINES
from trainer.losses.registry import LOSSES

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class PopularityConfig(Section):
    """Popularity as one more coordinate of both towers: log P of the item, times a weight that the query learns.

    The angle between the towers then tells preference alone. In training the coordinate holds the popularity among the
    training examples; at serving what it is now: recent events weigh more (``preprocess.half_life_days``).
    """

    strength: PositiveFloat = Field(1.0, description="factor on the coordinate at serving")
    pseudo_events: PositiveFloat = Field(
        PSEUDO_EVENTS, description="recent events that the long-term share counts as"
    )


class TowerConfig(Section):
    """Shape of both towers: embeddings, optional hidden layers, a linear output, L2 norm."""

    dim: PositiveInt = Field(64, description="width of the output of both towers")
    query_hidden: list[PositiveInt] = Field(
        default_factory=list, description="widths of hidden layers before the last one"
    )
    item_hidden: list[PositiveInt] = Field(
        default_factory=list, description="widths of hidden layers before the last one"
    )
    history: HistoryConfig = HistoryConfig()
    dropout: Share = Field(0.0, description="on the concatenated embeddings, training only")
    popularity: PopularityConfig | None = Field(
        None, description="popularity coordinate, default: none"
    )
    unknown_rate: Share = Field(
        0.01,
        description="probability of reading a value in training as if its key were unknown: ids, categories and words "
        "of both sides and of histories; what trains the rows that new users and new items read",
    )


class SSLConfig(Section):
    """Self-supervision of the item tower (Yao et al., CIKM 2021)."""

    enabled: bool = Field(False, description="train the self-supervised task beside the main one")
    augmentation: Literal["random_mask", "value_dropout", "complementary", "correlated"] = Field(
        "correlated", description="how two views of an item are masked"
    )
    alpha: PositiveFloat = Field(0.1, description="weight of its loss")
    temperature: PositiveFloat = Field(0.1, description="of its softmax")
    batch_size: PositiveInt = Field(1024, description="items drawn uniformly from the table a step")
    mask_rate: Fraction = Field(
        0.5, description="random_mask, value_dropout: probability of a mask"
    )


class TrainConfig(Section):
    """The training loop."""

    batch_size: int = Field(1024, ge=2, description="examples of a step, of all workers together")
    max_epochs: PositiveInt = Field(10, description="passes over the examples, at most")
    learning_rate: PositiveFloat = Field(0.1, description="of Adagrad")
    initial_accumulator: PositiveFloat = Field(
        1e-6,
        description="adagrad's; with a mean loss Keras's 0.1 leaves rare rows where they started",
    )
    optimizer: Literal["adagrad"] = Field(
        "adagrad", description="sparse updates: a step's time does not grow with a vocabulary"
    )
    evaluations_per_epoch: PositiveInt = Field(1, description="on validation, in equal distances")
    continued_learning_rate: PositiveFloat | None = Field(
        None,
        description="of a training that goes on from an earlier model; default: a hundredth of learning_rate. "
        "Choose it on validation: what is new is few and not as the whole (docs/daily.md)",
    )
    final_fit: Literal["continue", "from_scratch", "none"] = Field(
        "continue",
        description="how the model that is served learns what validation and test held out, after the gates: going on "
        "from the one that was evaluated, trained anew on all events, or not at all",
    )
    continue_from: str | None = Field(
        None,
        description="work_dir of an earlier run, whose model learns the events since, in time order",
    )
    patience: PositiveInt = Field(
        3, description="evaluations without a better validation figure before stopping"
    )
    monitor: str = Field(
        "recall@100/new",
        description="validation figure that decides, default: recall of the longest list",
    )
    checkpoint_every: PositiveInt = Field(500, description="steps")
    keep_checkpoints: PositiveInt = Field(
        2, description="the newest ones; the best weights are kept besides"
    )
    steps_per_execution: PositiveInt = Field(32, description="steps inside one graph call")
    min_shard_bytes: PositiveInt = Field(
        1 << 18,
        description="parameter servers: a table is divided into shards of this size or larger",
    )
    grace_seconds: PositiveFloat = Field(
        60.0,
        description="parameter servers: a coordinator that is away for longer is not waited for",
    )
    shuffle_buffer: PositiveInt = Field(
        4_000_000,
        description="examples; a training set that fits is held in memory and shuffled perfectly",
    )

    @property
    def rate_of_continuation(self) -> float:
        """Learning rate of a training that goes on from an earlier model."""
        return self.continued_learning_rate or self.learning_rate / 100


class EvaluateConfig(Section):
    """Full-corpus evaluation."""

    ks: list[PositiveInt] = Field(
        default=[10, 50, 100], description="lengths of the lists that are measured"
    )
    bucket_shares: tuple[Fraction, Fraction] = Field(
        (0.5, 0.3), description="share of events of head and torso"
    )
    max_validation_users: PositiveInt = Field(
        2_000, description="users of the evaluations during training"
    )
    max_users: PositiveInt = Field(
        100_000, description="users of a split in the full evaluation: a random sample, by the seed"
    )
    baselines: list[name_of(BASELINES)] = Field(  # type: ignore[valid-type]
        default=list(BASELINES), description="what the model is compared with"
    )
    als: ALSConfig = ALSConfig()
    neighbours: NeighboursConfig = NeighboursConfig()
    batch_users: PositiveInt = Field(64, description="users scored at once")
    enough_hits: PositiveInt = Field(
        200,
        description="in the tail, of two models together, that a comparison stands on; below it, longer lists "
        "and then the torso beside the tail are compared",
    )

    @model_validator(mode="after")
    def _check(self) -> EvaluateConfig:
        if not self.ks or sorted(set(self.ks)) != list(self.ks):
            raise ValueError(
                f"expected ks in rising order without repeats, received {list(self.ks)}"
            )
        if sum(self.bucket_shares) >= 1:
            raise ValueError(
                f"expected bucket_shares to sum to less than 1, received {self.bucket_shares}"
            )
        return self


class DataChecksConfig(Section):
    """Statistics, schema and anomalies of the examples (TensorFlow Data Validation, extra `tfx`)."""

    enabled: bool | None = Field(None, description="default: where the package is installed")
    max_examples: PositiveInt = Field(50_000, description="of a split, evenly from all files")
    max_unknown: Share = Field(0.1, description="share of values outside the vocabulary")
    max_drift: Fraction = Field(
        0.25, description="change of a value's share, of a presence, or Jensen-Shannon divergence"
    )


class TrainerSections(DataSections):
    """What ``python -m trainer.task`` needs of a configuration file."""

    towers: TowerConfig = TowerConfig()
    prior: PriorConfig | None = Field(None, description="popularity at serving only, default: none")
    loss: LossConfig = LossConfig()
    negatives: NegativesConfig = NegativesConfig()
    ssl: SSLConfig = SSLConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    data_checks: DataChecksConfig = DataChecksConfig()

    @property
    def is_final_fit(self) -> bool:
        """Whether the data hold nothing out: a training on them is a final fit."""
        return self.preprocess.split.held_out == "train"

    @property
    def pseudo_events(self) -> float:
        """Of the popularity coordinate, learned or set for serving."""
        if self.towers.popularity:
            return self.towers.popularity.pseudo_events
        return (self.prior and self.prior.pseudo_events) or PSEUDO_EVENTS

    @model_validator(mode="before")
    @classmethod
    def _monitor_the_longest_list(cls, given: Any) -> Any:
        """Without a word on it, the recall of the longest list decides."""
        ks = (given.get("evaluate") or {}).get("ks")
        train = given.get("train") or {}
        if isinstance(train, dict) and isinstance(ks, list) and ks and "monitor" not in train:
            return {**given, "train": {**train, "monitor": f"recall@{max(ks)}/new"}}
        return given

    @model_validator(mode="after")
    def _check_trainer(self) -> TrainerSections:
        maskable = self.feature_list.maskable
        if (
            self.ssl.enabled
            and self.ssl.augmentation == "value_dropout"
            and not any(f.is_multivalued for f in maskable)
        ):
            raise ValueError(
                "ssl.augmentation 'value_dropout' needs a maskable item feature of kind 'multi' or 'text'"
            )
        if self.ssl.enabled and self.ssl.augmentation != "value_dropout" and len(maskable) < 2:
            raise ValueError(
                f"ssl.augmentation '{self.ssl.augmentation}' needs at least two maskable item features, "
                f"found {len(maskable)}"
            )
        self._check_negatives()
        known = {
            f"{m}@{k}/{s}"
            for m in ("recall", "ndcg", "mrr")
            for k in self.evaluate.ks
            for s in ("new", "all")
        }
        if self.train.monitor not in known:
            raise ValueError(
                f"train.monitor expected one of {sorted(known)}, received '{self.train.monitor}'"
            )
        return self

    def _check_negatives(self) -> None:
        loss, negatives, batch = self.loss, self.negatives, self.train.batch_size
        if self.prior and self.prior.pseudo_events and self.towers.popularity:
            raise ValueError(
                "prior.pseudo_events expected no towers.popularity, whose pseudo_events count for "
                f"the same coordinate, received {self.prior.pseudo_events}"
            )
        if loss.probabilities == "streamed" and loss.frequency.buckets < batch:
            raise ValueError(
                f"loss.frequency.buckets expected at least train.batch_size={batch}, the distinct "
                f"items that a batch may hold, received {loss.frequency.buckets}"
            )
        memory = negatives.memory
        if memory and memory.size > memory.warm_up_steps * batch:
            raise ValueError(
                f"negatives.memory.size expected at most warm_up_steps x train.batch_size = "
                f"{memory.warm_up_steps * batch}, received {memory.size}: the bank would not be "
                "full when it is first used"
            )
        drawn = batch * negatives.in_batch + negatives.uniform + (memory.used if memory else 0)
        drawn -= negatives.in_batch  # a row's own positive
        if negatives.hardest and negatives.hardest >= drawn:
            raise ValueError(
                f"negatives.hardest expected less than the {drawn} negatives, received "
                f"{negatives.hardest}"
            )
        per_row = [
            name
            for name, is_used in (
                ("hardest", negatives.hardest),
                ("known_positives: remove", negatives.known_positives == "remove"),
                ("explicit", negatives.explicit),
                ("in_batch: false", not negatives.in_batch),
            )
            if is_used
        ]
        kind = LOSSES[loss.kind]
        if not kind.by_row and per_row:
            raise ValueError(
                f"negatives {per_row} expected another loss.kind than '{loss.kind}', which counts all "
                "pairs at once"
            )
        if negatives.hardest and loss.log_q not in kind.hardest:
            usable = " or ".join(f"'{name}'" for name in kind.hardest)
            raise ValueError(
                f"negatives.hardest expected loss.log_q {usable} with loss.kind '{loss.kind}', received "
                f"'{loss.log_q}': its estimate needs all draws, not the hardest"
            )
        if negatives.explicit and self.data.refused is None:
            raise ValueError(
                "negatives.explicit needs refusals, and data.refused is missing: name their column there"
            )
