"""Whether a training step could run on a GPU: every operation has a kernel there for its types.

TensorFlow's build for Linux registers the kernels of a GPU wherever it is imported, so that no GPU is
needed to look. The step is traced as one process trains it, and each operation of its graph, and of the
functions that it calls, is looked up by its types.

Shown: no operation is left to the CPU for want of a kernel, and none of the kernels keeps data in
the memory of the host, as nearly all of int32 do. Not shown: that the kernels give the same values,
how fast they are, what the placement of TensorFlow makes of it; and neither the input, nor
evaluations, nor what several replicas say to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorflow.python.framework import kernels

from trainer.base.keras2 import tf
from trainer.config.sections import TrainerSections
from trainer.data.input_fn import TrainingData
from trainer.loop.build import build_model

pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this build of TensorFlow has no kernels of a GPU"
)

FEW = 8
"""Numbers of a shape, a seed or a counter. The data of these tests come in batches of 32."""
SSL = {"enabled": True, "batch_size": 16, "augmentation": "complementary"}
MEMORY = {"size": 64, "drawn": 40, "warm_up_steps": 2, "momentum": 0.9}
SET_UPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "streamed": {
        "loss": {"probabilities": "streamed"},
        "negatives": {"uniform": 16, "memory": MEMORY},
        "towers": {"dropout": 0.2, "unknown_rate": 0.3},
        "ssl": SSL,
    },
    "refused": {
        "data": {"refused": {"column": "rating", "at_most": 2.0}},
        "negatives": {"explicit": True, "in_batch": False, "uniform": 16},
        "loss": {"kind": "bsl", "bsl_ratio": 2.0},
        "towers": {"popularity": {}, "history": {"encoder": "attention"}},
    },
}


def traced(config: TrainerSections, data_dir: Path) -> list[Any]:
    """The graph of a step, and those of all functions that it calls."""
    model = build_model(config, data_dir)
    batch = next(iter(TrainingData(data_dir, config).dataset(0)))
    step = tf.function(model.train_step, autograph=False).get_concrete_function(batch)
    return list(_with_nested(step.graph))


def _with_nested(graph: Any) -> Iterator[Any]:
    yield graph
    for function in graph._functions.values():
        yield from _with_nested(function.graph)


def kernel_of(operation: tf.Operation) -> Any:
    """The kernel that a GPU has for the operation's types; None where it has none."""
    attributes = operation.node_def.attr

    def fits(kernel: Any) -> bool:
        for constraint in kernel.constraint:
            value = attributes[constraint.name]
            types = [value.type] if value.WhichOneof("value") == "type" else value.list.type
            if not set(types) <= set(constraint.allowed_values.list.type):
                return False
        return True

    registered = kernels.get_registered_kernels_for_op(operation.type).kernel
    for device in ("GPU", "DEFAULT"):  # what is registered for every device stands back
        found = [k for k in registered if k.device_type == device and fits(k)]
        if found:
            return max(found, key=lambda kernel: kernel.priority)
    return None


def operations(graphs: list[Any]) -> list[tf.Operation]:
    """Of all graphs, but for their arguments and the texts of assertions, which are nobody's data."""
    every = [operation for graph in graphs for operation in graph.get_operations()]
    return [
        operation
        for operation in every
        if operation.type != "Placeholder"
        and not (operation.type == "Const" and operation.outputs[0].dtype == tf.string)
    ]


def of_host(operation: tf.Operation) -> list[str]:
    """Outputs that hold data and that the kernel for a GPU writes to the memory of the host."""
    if operation.type == "BroadcastGradientArgs":  # axes
        return []
    kept, names = kernel_of(operation).host_memory_arg, []
    for argument in operation.op_def.output_arg:
        names += [argument.name] * _number(operation, argument)
    return [
        f"{operation.name}: {output.dtype.name} {output.shape}"
        for name, output in zip(names, operation.outputs, strict=True)
        if name in kept and not (output.shape.is_fully_defined() and _size(output) <= FEW)
    ]


def _size(output: tf.Tensor) -> int:
    return int(output.shape.num_elements())


def _number(operation: tf.Operation, argument: Any) -> int:
    if argument.number_attr:
        return int(operation.get_attr(argument.number_attr))
    if argument.type_list_attr:
        return len(operation.get_attr(argument.type_list_attr))
    return 1


@pytest.mark.parametrize("set_up", SET_UPS)
def test_a_step_needs_nothing_of_the_cpu(
    data_dir: Path, configure: Callable[..., TrainerSections], set_up: str
) -> None:
    graphs = traced(configure(**SET_UPS[set_up]), data_dir)
    variables = {v.ref(): v for graph in graphs for v in graph.variables}
    assert len(variables) > 10
    assert [v.name for v in variables.values() if v.dtype == tf.int32] == []
    steps = operations(graphs)
    assert {"ResourceGather", "ResourceSparseApplyAdagrad"} <= {each.type for each in steps}
    assert [each.name for each in steps if kernel_of(each) is None] == []
    assert [kept for each in steps for kept in of_host(each)] == []


def test_what_the_docs_name_as_work_of_the_cpu(
    data_dir: Path, configure: Callable[..., TrainerSections]
) -> None:
    # Among 64 columns the hardest 2 are searched for by blocks of columns, which takes all three.
    negatives = {"known_positives": "remove", "hardest": 2, "uniform": 32}
    steps = operations(traced(configure(negatives=negatives), data_dir))
    without = [each for each in steps if kernel_of(each) is None]
    placed = {each.type for each in without if "CPU" in each.device}
    assert placed == {"RaggedGather", "RaggedBincount"}  # of known positives, all of it there
    left = {each.type for each in without} - placed
    assert left == {"NthElement", "DenseBincount", "RaggedTensorToTensor"}  # of the hardest
