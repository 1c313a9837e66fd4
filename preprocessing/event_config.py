"""What kinds of events are worth, and what does not go with it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _named(events: Any) -> Any:
    """Kinds by their names without blanks around; a number is a name, too."""
    if not isinstance(events, dict):
        return events
    names = {
        each: str(each) if type(each) is int else each.strip() if isinstance(each, str) else each
        for each in events
    }
    if len(set(names.values())) < len(names) or "" in names.values():
        raise ValueError(
            f"expected a name for each kind of event, no two the same, received {list(events)}"
        )
    return {names[each]: weight for each, weight in events.items()}


EventWeights = Annotated[dict[str, float], Field(min_length=1), BeforeValidator(_named)]


def check_events(
    events: dict[str, float] | None,
    column: str | None,
    *,
    reward: str | None,
    min_reward: float | None,
    at_most: float | None,
    refused_column: str | None,
) -> None:
    """Refuse settings that contradict each other, or that nothing would read.

    Args:
      events: the weight of each kind; None where the log has no kinds.
      column: that names the kind.
      reward: the column of rewards.
      min_reward: the least of a positive.
      at_most: the largest value of a refusal; None where there are none.
      refused_column: that tells refusals; None where the weights of events do.

    Raises:
      ValueError: they do.
    """
    if events is None:
        if column is not None:
            raise ValueError(
                f"columns.event names column '{column}', which only data.events reads: list there what each kind of "
                "event is worth, e.g. events: {view: 0.1, purchase: 1}, or leave the column out"
            )
        return
    if column is None:
        raise ValueError("events are told by the column that columns.event names: name it")
    if reward is not None:
        raise ValueError(
            f"expected the reward of an interaction from events or from columns.reward='{reward}', received both: "
            "leave one of them out"
        )
    if min_reward is not None:
        raise ValueError(
            "min_reward does not go with events: give a kind of event that is no positive weight 0, or do not list it"
        )
    if refused_column == column:
        raise ValueError(
            f"refused.column expected a column of numbers, received columns.event='{column}': leave refused.column "
            "out, and refused.at_most is held against the weights of events"
        )
    own = at_most if refused_column is None else None
    refused = [name for name, weight in events.items() if own is not None and weight <= own]
    below = [name for name, weight in events.items() if weight < 0 and name not in refused]
    if below:
        raise ValueError(
            f"events expected weights of at least 0, received less for {', '.join(below)}: a kind of event that says "
            "what people did not want is told by refused: {at_most: -1}"
        )
    if own is not None and not refused:
        raise ValueError(
            f"refused.at_most={own:g} holds for no weight of events: give the kinds that are refusals such a weight, "
            "or name refused.column"
        )
    if not any(weight > 0 for name, weight in events.items() if name not in refused):
        raise ValueError(
            "events expected at least one kind with a weight above 0 that is no refusal"
        )
