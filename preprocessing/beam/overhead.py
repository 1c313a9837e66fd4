"""What Beam repeats at each of hundreds of steps, done once a pipeline: most of what it costs to run a small log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core

View = TypeVar("View", bound=PipelineOptions)


class Options(PipelineOptions):
    """Beam's options, whose views are kept: Beam asks for some at each step, and parses its arguments for each anew.

    Views share the values of the options that they are of, so that one does for all who ask.
    """

    def view_as(self, cls: type[View]) -> View:
        """The options as an object of ``cls``, the same one for each call."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_views"}


@contextmanager
def signatures_read_once() -> Iterator[None]:
    """Within the block Beam inspects a method once.

    Beam looks for state and timers among the 31 methods of a ``DoFn`` up to eight times a step. Nearly all are those of
    its base class, whose arguments are the same for every step.
    """
    inspect = core.get_function_args_defaults
    known: dict[Any, tuple[list[str], list[Any]]] = {}

    def remembering(function: Any) -> tuple[list[str], list[Any]]:
        if not isinstance(function, MethodType):
            return inspect(function)
        own = function.__func__
        if own not in known:
            known[own] = inspect(function)
        names, defaults = known[own]
        return list(names), list(defaults)

    core.get_function_args_defaults = remembering
    try:
        yield
    finally:
        core.get_function_args_defaults = inspect
