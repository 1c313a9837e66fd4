"""The self-supervised task: its views, its loss against a slow reference, and its refusals."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from preprocessing.base.errors import LongtailError
from tests.trainer.maths import BOTH
from trainer.base.keras2 import keras, tf
from trainer.ssl.task import SelfSupervisedTask

NAMES = ("brand", "price", "tags")
MI = [[0.0, 0.5, 0.1], [0.5, 0.0, 0.2], [0.1, 0.2, 0.0]]
KINDS = ("random_mask", "value_dropout", "complementary", "correlated")


def items(num_items=6):
    """No value is blank, so that every mask shows."""
    generator = np.random.default_rng(0)
    return {
        "item_id": tf.constant(np.arange(1, num_items + 1)),
        "brand": tf.constant(generator.integers(1, 9, num_items)),
        "price": tf.constant(generator.uniform(1, 2, num_items).astype(np.float32)),
        "tags": tf.constant(generator.integers(1, 9, [num_items, 4])),
    }


def tower(features):
    """A smooth function of the maskable features; no weights, so that it repeats."""
    brand = tf.cast(features["brand"], tf.float32)
    tags = tf.reduce_sum(tf.cast(features["tags"], tf.float32), axis=1)
    return tf.stack([tf.sin(brand), tf.cos(brand), features["price"], tf.sin(tags)], axis=1)


def make(kind, names=NAMES, **options):
    if kind == "correlated":
        options.setdefault("mutual_information", MI)
    return SelfSupervisedTask(kind, names, **options)


def blank(values):
    """[m] bool: which items have nothing left of a feature."""
    return (np.asarray(values) == 0).reshape(len(values), -1).all(axis=1)


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_the_views_against_the_reference(run, kind):
    task = make(kind, temperature=0.2, seed=3)
    features, step = items(), tf.constant(11, tf.int64)
    loss = run(lambda f, s: task(f, item_tower=tower, step=s))(features, step)
    view_a, view_b = (tower(view).numpy().astype(np.float64) for view in task.views(features, step))
    expected = 0.0
    for i, a in enumerate(view_a):
        logits = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b) * 0.2 + 1e-30) for b in view_b]
        expected -= (logits[i] - math.log(sum(map(math.exp, logits)))) / len(view_a)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_views_keep_names_types_shapes_and_what_may_not_be_masked(kind):
    features = items()
    for view in make(kind, mask_rate=0.7).views(features, 0):
        assert set(view) == set(features)
        for name, values in view.items():
            assert values.dtype == features[name].dtype
            assert values.shape == features[name].shape
            kept = (values.numpy() == features[name].numpy()) | (values.numpy() == 0)
            assert kept.all()
        np.testing.assert_array_equal(view["item_id"], features["item_id"])


@pytest.mark.parametrize("kind", ["complementary", "correlated"])
@pytest.mark.parametrize("per_item", [False, True])
def test_each_feature_is_seen_by_exactly_one_view(kind, per_item):
    task = make(kind, per_item=per_item)
    patterns = set()
    for step in range(12):
        view_a, view_b = task.views(items(), step)
        masked_a = np.stack([blank(view_a[name]) for name in NAMES], axis=1)
        masked_b = np.stack([blank(view_b[name]) for name in NAMES], axis=1)
        np.testing.assert_array_equal(masked_b, ~masked_a)
        assert per_item or (masked_a == masked_a[0]).all()
        patterns |= {tuple(row) for row in masked_a}
    # k = 3. Complementary: floor(3/2) = 1 is masked in view 1: three patterns. Correlated: a seed
    # and 1 most related: brand -> price (0.5), price -> brand (0.5), tags -> price (0.2).
    split = {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    related = {(1, 1, 0), (0, 1, 1)}
    assert patterns == (split if kind == "complementary" else related)


def test_random_mask_views_differ_from_each_other():
    view_a, view_b = make("random_mask").views(items(200), 0)
    masked_a, masked_b = blank(view_a["brand"]), blank(view_b["brand"])
    # Independent at rate 0.5: they disagree in half of the items, with standard error 0.035.
    np.testing.assert_allclose((masked_a != masked_b).mean(), 0.5, atol=0.15)


def test_value_dropout_touches_multi_valued_features_only():
    view_a, view_b = make("value_dropout").views(items(200), 0)
    for name in ("brand", "price"):
        np.testing.assert_array_equal(view_a[name], items(200)[name])
    dropped_a, dropped_b = (view["tags"].numpy() == 0 for view in (view_a, view_b))
    np.testing.assert_allclose(dropped_a.mean(), 0.5, atol=0.1)
    np.testing.assert_allclose((dropped_a != dropped_b).mean(), 0.5, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_repeat_for_a_step_and_change_with_step_and_seed(kind):
    def masked(seed, steps):
        task = make(kind, seed=seed)
        return [
            np.concatenate(
                [np.reshape(values, -1) for values in task.views(items(), step)[0].values()]
            )
            for step in steps
        ]

    first = masked(1, range(20))
    np.testing.assert_array_equal(first, masked(1, range(20)))
    assert any((a != b).any() for a, b in itertools.pairwise(first))
    assert any((a != b).any() for a, b in zip(first, masked(2, range(20)), strict=True))


def test_both_views_go_through_the_tower_in_one_call():
    calls = []

    def counting(features):
        calls.append({name: values.shape[0] for name, values in features.items()})
        return tower(features)

    make("complementary")(items(5), item_tower=counting, step=0)
    assert calls == [dict.fromkeys(items(), 10)]


def test_the_item_tower_learns_and_stays_the_models_own():
    # Without a seed, Keras draws one in a way that warns once set_random_seed was called.
    dense = keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=0))
    task = make("complementary")
    with tf.GradientTape() as tape:
        loss = task(items(), item_tower=lambda features: dense(tower(features)), step=0)
    gradient = tape.gradient(loss, dense.trainable_variables)
    assert np.isfinite(gradient[0]).all()
    assert np.abs(gradient[0]).max() > 0
    assert task.trainable_variables == []


@BOTH
def test_a_single_item_has_nothing_to_be_told_apart_from(run):
    task = make("correlated")
    loss = run(lambda f: task(f, item_tower=tower, step=0))(items(1))
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_everything_masked_costs_log_m():
    # All embeddings alike (here: zero vectors): P = 1/m.
    def blind(features):
        return tf.zeros([tf.shape(features["brand"])[0], 4])

    loss = make("random_mask", mask_rate=1.0)(items(6), item_tower=blind, step=0)
    np.testing.assert_allclose(loss, math.log(6), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_config_round_trip(kind):
    task = make(kind, temperature=0.3, mask_rate=0.4, per_item=True, seed=9, name="self")
    config = json.loads(json.dumps(task.get_config()))
    clone = SelfSupervisedTask.from_config(config)
    assert clone.get_config() == task.get_config()
    assert config["mask_features"] == list(NAMES)
    for mine, theirs in zip(task.views(items(), 4), clone.views(items(), 4), strict=True):
        for name in items():
            np.testing.assert_array_equal(mine[name], theirs[name])
    restored = keras.layers.deserialize(keras.layers.serialize(task))
    assert restored.get_config() == task.get_config()


@pytest.mark.parametrize(
    ("kind", "names", "options", "message"),
    [
        ("shuffle", NAMES, {}, r"augmentation: expected one of .* received 'shuffle'"),
        ("random_mask", (), {}, "mask_features: .* expected at least 1, received"),
        ("complementary", ("brand",), {}, r"expected at least 2, received \['brand'\]"),
        ("random_mask", ("brand", "brand"), {}, "expected distinct names"),
        ("random_mask", NAMES, {"mask_rate": 1.5}, "mask_rate: expected 0 to 1, received 1.5"),
        ("random_mask", NAMES, {"temperature": 0}, "temperature: expected a number above 0"),
        ("correlated", NAMES, {"mutual_information": None}, r"\[3, 3\] matrix .* received None"),
        ("correlated", NAMES, {"mutual_information": [[1.0]]}, r"\[3, 3\] matrix .* received 1 r"),
        (
            "correlated",
            ("brand", "tags"),
            {"mutual_information": [[1.0, math.nan], [0.0, 1.0]]},
            "expected finite numbers",
        ),
    ],
)
def test_refuses_impossible_configurations(kind, names, options, message):
    with pytest.raises(LongtailError, match=message):
        make(kind, names, **options)


def test_refuses_value_dropout_without_multi_valued_features():
    task = make("value_dropout", ("brand", "price"))
    with pytest.raises(
        LongtailError, match=r"expected at least one multi-valued feature .*another"
    ):
        task(items(), item_tower=tower, step=0)


def test_refuses_features_that_are_not_there():
    task = make("random_mask", ("brand", "colour"))
    with pytest.raises(LongtailError, match=r"\['brand', 'item_id', .*received \['colour'\]"):
        task(items(), item_tower=tower, step=0)
