"""ONNX Runtime's operations, each a model of one node or two."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from lucid.onnx._need import need
from oracle.errors import UsageError

need("onnxruntime", "the subject onnxruntime")  # without its telemetry, which can be switched off before alone
import onnxruntime  # noqa: E402

_OPSET, _IR = 18, 9
_KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
_CASTS = {"cast_float16": TensorProto.FLOAT16, "cast_bfloat16": TensorProto.BFLOAT16}
# operation: the nodes, each an operator and its inputs, where a, b, c are the model's; the last makes the result
_NODES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "matmul": (("MatMul", ("a", "b")),),
    "conv2d": (("Conv", ("a", "b")),),
    "sum": (("ReduceSum", ("a", "axes")),),
    "add": (("Add", ("a", "b")),),
    "multiply": (("Mul", ("a", "b")),),
    "multiply_add": (("Mul", ("a", "b")), ("Add", ("made", "c"))),
    "exp": (("Exp", ("a",)),),
    "log": (("Log", ("a",)),),
    "tanh": (("Tanh", ("a",)),),
    "sigmoid": (("Sigmoid", ("a",)),),
    "sqrt": (("Sqrt", ("a",)),),
    "reciprocal": (("Reciprocal", ("a",)),),
    "layer_norm": (("LayerNormalization", ("a", "ones")),),
}
OPERATIONS = (*_NODES, *_CASTS)


def run_operation(operation: str, precision: str, provider: str, given: tuple[Any, ...]) -> Any:
    """The result of one operation; a number at the end of what is given is eps."""
    arrays = [each for each in given if isinstance(each, np.ndarray)]
    eps = next((each for each in given if isinstance(each, float)), None)
    ranks = tuple(array.ndim for array in arrays)
    session = _session(operation, precision, provider, ranks, eps, arrays[0].shape[-1])
    return session.run(None, dict(zip("abc", arrays, strict=False)))[0]


@cache
def _session(
    operation: str, precision: str, provider: str, ranks: tuple[int, ...], eps: float | None, last: int
) -> Any:
    kind = TensorProto.FLOAT if operation in _CASTS else _KINDS[precision]
    if operation in _CASTS:
        nodes = [
            helper.make_node("Cast", ["a"], ["narrow"], to=_CASTS[operation]),
            helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.FLOAT),
        ]
    else:
        *before, (operator, inputs) = _NODES[operation]
        nodes = [helper.make_node(each, list(names), ["made"]) for each, names in before]
        attributes = {"epsilon": eps} if eps is not None else {"keepdims": 0} if operator == "ReduceSum" else {}
        nodes.append(helper.make_node(operator, list(inputs), ["y"], **attributes))
    constants = []
    if operation == "sum":
        constants.append(helper.make_tensor("axes", TensorProto.INT64, [1], [-1]))
    if operation == "layer_norm":
        constants.append(helper.make_tensor("ones", kind, [last], [1.0] * last))
    graph = helper.make_graph(
        nodes,
        operation,
        [helper.make_tensor_value_info(name, kind, [None] * rank) for name, rank in zip("abc", ranks, strict=False)],
        [helper.make_tensor_value_info("y", kind, [None] * (ranks[0] - (operation == "sum")))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])


def functions(precision: str, provider: str) -> dict[str, Callable[..., Any]]:
    """The operations as functions of NumPy arrays.

    Raises:
        UsageError: ONNX Runtime has no such provider here, or no arrays of that precision.
    """
    names = onnxruntime.get_available_providers()
    whole = provider if provider.endswith("ExecutionProvider") else f"{provider}ExecutionProvider"
    if whole not in names:
        raise UsageError(f"subject: onnxruntime has no provider {provider} here; there are {', '.join(names)}")
    if precision not in _KINDS:
        raise UsageError(f"precision: got {precision!r} of onnxruntime; may be {', '.join(_KINDS)}")

    def made(operation: str) -> Callable[..., Any]:
        return lambda *given: run_operation(operation, precision, whole, given)

    return {operation: made(operation) for operation in OPERATIONS}
