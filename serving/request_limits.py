"""How much one request may ask for: what a model says to more, and what a client learns from that.

TF Serving's metadata has no place for such a limit; the refusal of either server names it.
"""

from __future__ import annotations

import re

MAX_BATCH = 1_024
"""Examples of one request, unless the export says otherwise."""
_EXAMPLES = "expected at most {} examples a request, received"
_ITEMS = "expected at most {} items in all lists of an answer, received"
SEVERAL = ": send several requests"
"""The end of either refusal."""


def too_many_examples(limit: int | str) -> str:
    """The start of the refusal of a request with more examples than `limit`."""
    return _EXAMPLES.format(limit)


def too_many_items(limit: int | str) -> str:
    """The start of the refusal of an answer with more than `limit` items in its lists."""
    return _ITEMS.format(limit)


class RequestLimits:
    """What a client knows of the limits of a model; it learns from refusals.

    Args:
      examples: most queries of a request, as long as the model has not named fewer.
    """

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._items: int | None = None

    def rows(self, k: int | None) -> int:
        """How many queries to ask at once for `k` items each; at least one."""
        if k is None or self._items is None:
            return self._examples
        return max(1, min(self._examples, self._items // max(k, 1)))

    def learn(self, refusal: str) -> None:
        """Takes over a limit that the text of a refusal names; any other text changes nothing."""
        if found := re.search(too_many_examples(r"(\d+)"), refusal):
            self._examples = max(1, min(self._examples, int(found[1])))
        if found := re.search(too_many_items(r"(\d+)"), refusal):
            self._items = int(found[1])
