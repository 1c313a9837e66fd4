"""Log popularity by hand, and what shrinking does."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.functional import popularity


def test_trained_by_hand() -> None:
    # 10 examples: (7.5, 2.5 + 1, 0.5) / 10
    got = popularity.trained([0, 7, 3, 0])
    np.testing.assert_allclose(got, np.log([0.05, 0.75, 0.35, 0.05]), rtol=1e-6)


def test_current_by_hand() -> None:
    # shares 0.75 and 0.25; recent 1 and 3, C = 4, k = 2: trends (1 + 2) / (3 + 2) and (3 + 2) / (1 + 2)
    got = popularity.current([6, 2], [1, 3], 2)
    np.testing.assert_allclose(got, np.log([6.5 / 8 * 3 / 5, 2.5 / 8 * 5 / 3]), rtol=1e-6)


def test_without_a_trend_nothing_changes() -> None:
    counts = np.array([5, 3, 2])
    np.testing.assert_allclose(
        popularity.current(counts, counts * 0.3, 1), popularity.trained(counts), rtol=1e-6
    )


def test_many_pseudo_events_keep_the_long_term() -> None:
    np.testing.assert_allclose(
        popularity.current([6, 2], [0, 4], 1e9), popularity.trained([6, 2]), rtol=1e-5
    )


def test_no_pseudo_events_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0, received 0"):
        popularity.current([1], [1], 0)
