"""The same operations by PyTorch (with its own gradients) and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.nn import functional as f

from kernel_corpus import contraction, loss, pooling, softmax, sums
from kernel_corpus.kernel import Kernel, alike, tensor_of

PRECISIONS = ("float32", "bfloat16", "float16")

# -- PyTorch -----------------------------------------------------------------------------------------------------------


# Its sum of exponentials is kept in float16 where rows lie in order: from 65,505 equal values on the result is -inf.
OVERFLOWS = (("log_softmax", "float16"), ("cross_entropy", "float16"))


def _axes(x: torch.Tensor, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def _batch_norm(x: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None, **given: Any) -> Any:
    if given.get("training"):  # PyTorch writes the running statistics; whoever called keeps its own
        mean, variance = (None if each is None else each.detach().clone() for each in (mean, variance))
    return f.batch_norm(x, mean, variance, weight, bias, **given)


def _layer_norm(x: Any, *rest: Any, normalized_shape: Any = None, eps: float = 1e-5) -> Any:
    weight, bias = ([each for each in rest if isinstance(each, torch.Tensor)] + [None, None])[:2]
    shape = normalized_shape if normalized_shape is not None else weight.shape
    return f.layer_norm(x, [shape] if isinstance(shape, int) else list(shape), weight, bias, eps)


TORCH: dict[str, Callable[..., Any]] = {
    "matmul": torch.matmul,
    "linear": f.linear,
    "conv2d": f.conv2d,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "max_pool2d": f.max_pool2d,
    "avg_pool2d": f.avg_pool2d,
    "adaptive_avg_pool2d": f.adaptive_avg_pool2d,
    "relu": f.relu,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "log": torch.log,
    "gelu": f.gelu,
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "cross_entropy": f.cross_entropy,
    "sum": lambda x, axis=None, keepdims=False: torch.sum(x, _axes(x, axis), keepdims),
    "mean": lambda x, axis=None, keepdims=False: torch.mean(x, _axes(x, axis), keepdims),
    "cumsum": lambda x, axis=-1: torch.cumsum(x, axis),
    "add": torch.add,
    "multiply": torch.mul,
}


def _channels_last(x: torch.Tensor, *rest: Any, **given: Any) -> torch.Tensor:
    return f.conv2d(x.contiguous(memory_format=torch.channels_last), *rest, **given)


def _without_onednn(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **given: Any) -> Any:
        with torch.backends.mkldnn.flags(enabled=False):
            return function(*inputs, **given)

    return run


def _by_parts(x: torch.Tensor, **given: Any) -> torch.Tensor:
    return torch.exp(f.log_softmax(x.float(), given.get("axis", -1))).to(x.dtype)


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation with every set of attributes that the corpus has for it."""
    yield from ((op, {}) for op in ("matmul", "linear", "relu", "sigmoid", "exp", "log", "gelu", "add", "multiply"))
    yield "gelu", {"approximate": "tanh"}
    yield from (("conv2d", given) for given in contraction.CONVS)
    yield from (("max_pool2d", given) for given in pooling.MAXES)
    yield from (("avg_pool2d", given) for given in pooling.AVERAGES)
    yield from (("adaptive_avg_pool2d", given) for given in pooling.ADAPTIVES)
    yield from ((op, given) for op in ("softmax", "log_softmax") for given in softmax.SETTINGS)
    yield from (("cross_entropy", given) for given in loss.SETTINGS)
    yield from ((op, given) for op in ("sum", "mean") for given in sums.SETTINGS)
    yield from (("cumsum", {"axis": axis}) for axis in (-1, 0))
    yield from (("batch_norm", {"training": training}) for training in (False, True))
    yield "layer_norm", {}


def healthy() -> Iterator[Kernel]:
    """PyTorch in each precision, some of its other code paths, and ONNX Runtime in float32."""
    for op, given in settings():
        for precision in PRECISIONS:
            if (op, precision) in OVERFLOWS and given.get("axis", -1) == -1:
                continue
            yield Kernel(op, "PyTorch", precision, TORCH[op], given, torch=True)
            if op in ("conv2d", "matmul", "linear", "softmax", "layer_norm", "batch_norm"):
                yield Kernel(op, "PyTorch without oneDNN", precision, _without_onednn(TORCH[op]), given, torch=True)
            if op == "conv2d":
                yield Kernel(op, "PyTorch, channels last", precision, _channels_last, given, torch=True)
            if op == "softmax":
                yield Kernel(op, "exp of PyTorch's log_softmax", precision, _by_parts, given, torch=True)
        if (op, tuple(given.items())) not in NOT_BY_ONNX and op in NODES:
            yield Kernel(op, "ONNX Runtime", "float32", by_onnx(op), given)


# -- ONNX Runtime ------------------------------------------------------------------------------------------------------

# Its operator, and attributes from ours. Sigmoid and Erf saturate there by design, and are not known to be healthy.
NODES: dict[str, tuple[str, Callable[[dict[str, Any], int], dict[str, Any]]]] = {
    "matmul": ("MatMul", lambda given, rank: {}),
    "relu": ("Relu", lambda given, rank: {}),
    "exp": ("Exp", lambda given, rank: {}),
    "log": ("Log", lambda given, rank: {}),
    "add": ("Add", lambda given, rank: {}),
    "multiply": ("Mul", lambda given, rank: {}),
    "softmax": ("Softmax", lambda given, rank: {"axis": given.get("axis", -1)}),
    "log_softmax": ("LogSoftmax", lambda given, rank: {"axis": given.get("axis", -1)}),
    "conv2d": ("Conv", lambda given, rank: _window(given)),
    "avg_pool2d": ("AveragePool", lambda given, rank: _window(given)),
    "batch_norm": ("BatchNormalization", lambda given, rank: {"epsilon": given.get("eps", 1e-5)}),
    "layer_norm": ("LayerNormalization", lambda given, rank: {"axis": -1, "epsilon": given.get("eps", 1e-5)}),
}  # fmt: skip
NOT_BY_ONNX = {("batch_norm", (("training", True),))}


def _window(given: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "kernel_size" in given:
        made["kernel_shape"] = list(contraction.pair(given["kernel_size"]))
        made["ceil_mode"] = int(given.get("ceil_mode", False))
        made["count_include_pad"] = int(given.get("count_include_pad", True))
    made["strides"] = list(contraction.pair(given.get("stride") or given.get("kernel_size", 1)))
    made["pads"] = list(contraction.pair(given.get("padding", 0))) * 2
    if "kernel_size" not in given:
        made |= {"dilations": list(contraction.pair(given.get("dilation", 1))), "group": given.get("groups", 1)}
    return made


@lru_cache(256)
def _session(op: str, ranks: tuple[int, ...], given: tuple[tuple[str, Any], ...]) -> onnxruntime.InferenceSession:
    kind, attributes = NODES[op]
    names = [f"x{i}" for i in range(len(ranks))]
    node = helper.make_node(kind, names, ["y"], **attributes(dict(given), ranks[0]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{axis}" for axis in range(rank)])
        for name, rank in zip(names, ranks, strict=True)
    ]
    graph = helper.make_graph([node], op, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_onnx(op: str) -> Callable[..., Any]:
    """One node of ONNX Runtime."""

    def run(*inputs: Any, **given: Any) -> Any:
        arrays = [
            np.array(tensor_of(each).detach().numpy(), np.float32, order="C")
            for each in inputs
            if each is not None and not isinstance(each, int | tuple | list)
        ]
        if op == "batch_norm":
            x, mean, variance, *more = arrays
            weight, bias = (more + [np.ones_like(mean), np.zeros_like(mean)][len(more) :])[:2]
            arrays = [x, weight, bias, mean, variance]
        if op == "layer_norm" and len(arrays) == 1:
            arrays.append(np.ones(arrays[0].shape[-1:], np.float32))
        session = _session(
            op,
            tuple(each.ndim for each in arrays),
            tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in given.items()),
        )
        (made,) = session.run(None, {f"x{i}": each for i, each in enumerate(arrays)})
        return alike(made, inputs[0])

    return run
