"""What Beam is asked once: the same answers as without."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.transforms import core, userstate

from preprocessing.beam.overhead import Options, signatures_read_once


class Stateless(beam.DoFn):
    def process(self, element: Any, factor: int = 2, *, unused: int = 0) -> Any:
        yield element * factor


class Other(beam.DoFn):
    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> Any:
        yield element, window


class Stateful(beam.DoFn):
    COUNT = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("count", sum))

    def process(self, element: Any, count: Any = COUNT) -> Any:
        count.add(1)
        yield element


FUNCTIONS = [Stateless(), Other(), Stateful(), core.CallableWrapperDoFn(lambda x, y=3: [x, y])]
METHODS = ("process", "start_bundle", "finish_bundle", "setup", "teardown")


def told() -> list[Any]:
    """What Beam makes of each function: arguments and defaults of its methods, and whether it has state."""
    return [
        [[each.get_function_arguments(name) for name in METHODS], userstate.is_stateful_dofn(each)]
        for each in FUNCTIONS
    ]


def test_beam_is_told_the_same() -> None:
    expected = told()
    assert [stateful for _, stateful in expected] == [False, False, True, False]
    assert expected[0][0][0] == (["element", "factor"], [2])
    with signatures_read_once():
        assert told() == expected  # read
        assert told() == expected  # remembered


def test_a_method_is_inspected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    inspect = core.get_function_args_defaults

    def counting(function: Any) -> Any:
        seen[getattr(function, "__qualname__", "")] += 1
        return inspect(function)

    monkeypatch.setattr(core, "get_function_args_defaults", counting)
    with signatures_read_once():
        for each in (Stateless(), Stateless(), Other()):
            userstate.is_stateful_dofn(each)
    assert seen["Stateless.process"] == seen["Other.process"] == seen["DoFn.setup"] == 1
    assert max(seen.values()) == 1
    assert core.get_function_args_defaults is counting  # as it was
    userstate.is_stateful_dofn(Stateless())
    assert seen["DoFn.setup"] == 2


def test_answers_are_nobody_else_s() -> None:
    with signatures_read_once():
        names, defaults = core.get_function_args_defaults(Stateless().process)
        names.append("changed")
        defaults.clear()
        assert core.get_function_args_defaults(Stateless().process) == (["element", "factor"], [2])


def test_an_error_leaves_beam_as_it_was() -> None:
    before = core.get_function_args_defaults
    with pytest.raises(KeyError), signatures_read_once():
        raise KeyError
    assert core.get_function_args_defaults is before


def test_views_share_their_values() -> None:
    flags = ["--direct_num_workers=3", "--runner=DirectRunner", "--project=p"]
    options, usual = Options(flags), PipelineOptions(flags)
    view = options.view_as(DirectOptions)
    assert options.view_as(DirectOptions) is view
    assert view.direct_num_workers == 3
    options.view_as(StandardOptions).runner = "FlinkRunner"  # by one view, seen by all
    usual.view_as(StandardOptions).runner = "FlinkRunner"
    assert view.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.get_all_options() == usual.get_all_options()
    assert options.view_as(GoogleCloudOptions).project == "p"
    assert Options(["--project=q"]).view_as(GoogleCloudOptions).project == "q"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_has_views_of_its_own(copied: Any) -> None:
    options = Options(["--direct_num_workers=3"])
    options.view_as(DirectOptions)
    other = copied(options)
    other.view_as(DirectOptions).direct_num_workers = 4
    assert other.view_as(DirectOptions).direct_num_workers == 4
    assert options.view_as(DirectOptions).direct_num_workers == 3
