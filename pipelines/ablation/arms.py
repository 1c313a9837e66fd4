"""The section ``ablate`` of the configuration, and the arms that are compared without one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveFloat, field_validator

from preprocessing.base.config_io import parse_config, put
from preprocessing.base.errors import LongtailError
from preprocessing.features import Section
from trainer.config.loss import LossConfig, PriorConfig
from trainer.config.sections import TrainerSections
from trainer.losses.registry import LOSSES

NO_CORRECTION, LOG_Q = "no correction", "logQ exact"
TEMPERATURE = "loss.temperature"
Changes = tuple[tuple[str, Any], ...]
"""Pairs (section.key, value), applied in their order; a later one wins."""
_OF_ONE_KIND = tuple(option for loss in LOSSES.values() for option in loss.options)
_CHANGEABLE = ("towers", "prior", "loss", "negatives", "ssl", "train")
_Values = Annotated[list[Any], Field(min_length=1)]
_Positive = Annotated[list[PositiveFloat], Field(min_length=1)]


class Arm(Section):
    """One way to train: changes to the file's configuration, and what of it is tuned."""

    set: dict[str, Any] = Field(
        default_factory=dict, description="section.key: value, applied in their order as by --set"
    )
    temperatures: _Positive | None = Field(None, description="default: those of all arms")
    tune: dict[str, _Values] = Field(
        default_factory=dict,
        description="section.key: values, searched one key after the other, after the temperature",
    )

    def searched(self, temperatures: Sequence[float]) -> dict[str, Sequence[Any]]:
        """Every key with its candidates, in the order of the search."""
        return {TEMPERATURE: self.temperatures or temperatures, **self.tune}


class AblateConfig(Section):
    """``longtail ablate``: which arms, over which seeds and values."""

    seeds: list[NonNegativeInt] = Field(
        default=[42, 43, 44], min_length=1, description="the first one decides what is tuned"
    )
    temperatures: _Positive = Field(
        default=[0.1, 0.15, 0.2], description="tried for each arm on validation"
    )
    learning_rates: _Positive = Field(
        default=[1.0],
        description="factors of train.learning_rate, tried for every default arm after all else",
    )
    betas: list[FiniteFloat] = Field(
        default=[-0.5, -0.25, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0],
        description="weights of log P when serving, chosen on validation",
    )
    arms: Annotated[dict[str, Arm], Field(min_length=1)] | None = Field(
        None, description="by name, default: see pipelines/ablation/arms.py"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("expected every seed once")
        return seeds

    @field_validator("betas")
    @classmethod
    def _rising_with_zero(cls, betas: list[float]) -> list[float]:
        if sorted(set(betas)) != betas or 0 not in betas:
            raise ValueError(
                "expected betas in rising order without repeats, 0 (the model as trained) among them"
            )
        return betas


def default_arms(
    config: TrainerSections, learning_rates: Sequence[float] = (1.0,)
) -> dict[str, Arm]:
    """What popularity is corrected by, each alone, on the sizes that a configuration allows."""
    batch = config.train.batch_size
    plain: dict[str, Any] = {
        "towers.popularity": None,
        "prior.beta": 0.0,
        "negatives": {},
        "ssl.enabled": False,
        "loss.kind": "softmax",
        "loss.log_q": "standard",
        "loss.probabilities": "exact",
        # What belongs to one kind of loss is refused by the others.
        **{f"loss.{own}": LossConfig.model_fields[own].default for own in _OF_ONE_KIND},
        "loss.frequency": {},
    }
    uncorrected = {"loss.log_q": "none"}
    size = min(8192, 64 * batch)
    memory = {"size": size, "drawn": min(size, 2048), "warm_up_steps": 64}
    changes: dict[str, dict[str, Any]] = {
        # The prior decides which evaluation of a run counts as its best: at 0 it would be a poor one.
        NO_CORRECTION: {**uncorrected, "prior.beta": 1.0},
        LOG_Q: {},
        "logQ streamed": {
            "loss.probabilities": "streamed",
            "loss.frequency": config.loss.frequency.model_dump(),
        },
        "corrected logQ": {"loss.log_q": "corrected"},
        "+ mixed": {"negatives.uniform": 1024},
        "+ memory bank": {"negatives.memory": memory},
        "+ known positives removed": {"negatives.known_positives": "remove"},
        **({"+ hard negatives": {"negatives.hardest": max(batch // 4, 1)}} if batch > 2 else {}),
        **({"+ refusals": {"negatives.explicit": True}} if config.data.refused else {}),
        "gramian": {"loss.kind": "gramian", **uncorrected},
        "BSL": {"loss.kind": "bsl", "loss.bsl_ratio": 3.0},
        "BCE": {"loss.kind": "bce", "loss.bce_weight": config.loss.bce_weight, **uncorrected},
        "NCE": {"loss.kind": "bce", "loss.bce_weight": config.loss.bce_weight},
    }
    # No softmax: whether its sampled negatives want a correction is to be found out.
    either: list[Any] = ["none", "standard"]
    tuned: dict[str, dict[str, list[Any]]] = {
        "logQ streamed": {"loss.frequency.learning_rate": [0.05, 0.2]},
        "gramian": {"loss.gramian_weight": [1.0, 10.0, 100.0], "loss.log_q": either},
        "BSL": {"loss.bsl_ratio": [1.0, 3.0, 10.0, 30.0]},
    }
    # Scores of the one are near 0 and 1, not logits; those of the other have to be far apart.
    temperatures = {"gramian": [0.4, 0.8, 1.6], "BCE": [0.05, 0.1, 0.2]}
    rate = config.train.learning_rate
    rates: dict[str, list[Any]] = {}
    if list(learning_rates) != [1.0]:
        rates = {"train.learning_rate": [rate * factor for factor in learning_rates]}
    arms = {
        name: Arm(
            set={**plain, **own},
            temperatures=temperatures.get(name),
            tune={**tuned.get(name, {}), **rates},
        )
        for name, own in changes.items()
    }
    coordinate: dict[str, Any] = {}
    if not config.towers.popularity:
        coordinate = {"prior": None, "towers.popularity": {}}
    arms["popularity coordinate"] = Arm(set={**coordinate, "ssl.enabled": False}, tune=rates)
    maskable = config.feature_list.maskable
    if len(maskable) > 1:
        kinds = ["random_mask", "complementary", "correlated"]
        if any(feature.is_multivalued for feature in maskable):
            kinds.append("value_dropout")
        arms["popularity coordinate + SSL"] = Arm(
            set={**coordinate, "ssl.enabled": True},
            tune={"ssl.alpha": [0.03, 0.3], "ssl.augmentation": kinds, **rates},
        )
    return arms


def chosen_arms(
    config: TrainerSections, settings: AblateConfig, names: Iterable[str]
) -> dict[str, Arm]:
    """The arms of the configuration or the default ones; only those named, if any are.

    Raises:
      LongtailError: a name is unknown.
    """
    arms = settings.arms or default_arms(config, settings.learning_rates)
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in arms]
    if unknown:
        raise LongtailError(
            f"--arms expected names of {', '.join(repr(name) for name in arms)}, received "
            f"{', '.join(repr(name) for name in unknown)}"
        )
    return {name: arms[name] for name in arms if name in wanted} if wanted else arms


def variant(config: TrainerSections, arm: str, changes: Changes, seed: int) -> TrainerSections:
    """The configuration of one training; it always has a weight of log P to vary when serving.

    Raises:
      LongtailError: a key is unknown or not of training, or a value is impossible.
    """
    source = f"arm '{arm}'"
    document = config.model_dump(mode="json")
    for key, value in changes:
        if key.partition(".")[0] not in _CHANGEABLE:
            raise LongtailError(
                f"{source}: {key}: expected a key of {', '.join(_CHANGEABLE)}: arms differ in "
                "training alone"
            )
        put(document, key, copy.deepcopy(value), f"{source}:")
    document["seed"] = seed
    parsed = parse_config(document, TrainerSections, source)
    if parsed.prior or parsed.towers.popularity:
        return parsed
    return parsed.model_copy(update={"prior": PriorConfig()})


def check(
    config: TrainerSections, name: str, arm: Arm, temperatures: Sequence[float], seed: int
) -> None:
    """Refuses an arm before any work is done for another.

    Raises:
      LongtailError: a key or a value of `set`, `temperatures` or `tune` is impossible.
    """
    fixed = tuple(arm.set.items())
    for key, values in arm.searched(temperatures).items():
        for value in values:
            variant(config, name, (*fixed, (key, value)), seed)


def value_at(config: TrainerSections, key: str) -> Any:
    """The value of a dotted key."""
    place: Any = config.model_dump(mode="json")
    for part in key.split("."):
        place = place[part]
    return place
