"""onnx's own suite: its cases in groups, what lucid makes of them, and how far that may be from the truth.

The suite compares with rtol 1e-3. Beside that, results are held to what follows from arithmetic: what only moves
elements is exact, integers are exact, and a float is within a few roundings of the declared type, of its inputs and of
itself, of the float64 result: ``ROUNDINGS * (u * |y| + change)``, where ``u`` is half the distance from 1 to the next
number of the type, and ``change`` how far the float64 result moves when every input, every parameter and, of a model of
several nodes, every value on the way does by ``u``. What sums products or goes step by step (``SUMMING``) is granted
two roundings of the tensor's largest element more: its parts may be larger than its result.

The float64 result is that of onnx's own evaluator or lucid's, whichever is nearer to what the suite expects.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as nodes
from onnx.backend.test.runner import Runner
from onnx.reference import ReferenceEvaluator

import lucid
from lucid.onnx._importer import IMPORTS
from lucid.onnx._module import OnnxModule, Operator

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
ROUNDINGS = 8
DISTURBED = 3
"""How often inputs are disturbed."""
_WIDENED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = {np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64), np.dtype(ml_dtypes.bfloat16)}
_TYPE_ATTRIBUTES = {"to", "dtype", "output_datatype", "output_dtype", "stash_type", "softmax_precision", "precision"}

SUMMING = {"Conv", "ConvTranspose", "DeformConv", "Gemm", "MatMul", "Einsum", "GRU", "LSTM", "RNN"}
SUMMING |= {"Attention", "LinearAttention", "FlexAttention", "CausalConvWithState"}

Outputs = Sequence[Any]


@dataclass(frozen=True)
class Case:
    """A model of the suite with inputs and the outputs that it expects.

    Attributes:
        judged: whether its floats are held to float64 ones; whole networks are not, whose weights would take gigabytes.
    """

    name: str
    model: onnx.ModelProto
    sets: Sequence[tuple[Sequence[Any], Outputs]]
    rtol: float = 1e-3
    atol: float = 1e-7
    judged: bool = True


# -- the suite -------------------------------------------------------------------------------------------------------


def groups() -> list[str]:
    """Names of groups of cases, without loading them: a module of node tests, a folder of models, or a model."""
    found = [f"node/{name}" for name in _modules(nodes.__path__, "")]
    found += [f"real/{path.name}" for path in sorted((DATA / "real").iterdir()) if path.is_dir()]
    return [*found, "simple", "pytorch-converted", "pytorch-operator"]


def _modules(paths: Any, prefix: str) -> Iterator[str]:
    for module in pkgutil.iter_modules(paths):
        name = f"{prefix}{module.name}"
        if module.ispkg:
            yield from _modules([str(Path(next(iter(paths))) / module.name)], f"{name}.")
        elif not module.name.startswith("_"):
            yield name


@lru_cache(1)
def cases(group: str) -> tuple[Case, ...]:
    """The cases of a group."""
    kind, _, name = group.partition("/")
    if kind == "node":
        return tuple(_node_cases(name))
    if kind == "real":
        return (_light_model(DATA / "real" / name),)
    return tuple(_stored(path) for path in sorted((DATA / kind).iterdir()) if (path / "model.onnx").exists())


_known: dict[str, list[Any]] = {}


def _node_cases(name: str) -> Iterator[Case]:
    """A module makes its cases while it is imported."""
    if name not in _known:
        before = len(nodes._NodeTestCases)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(f"{nodes.__name__}.{name}")
        _known[name] = nodes._NodeTestCases[before:]
    for case in _known[name]:
        sets = [([_value(v) for v in given], [_value(v) for v in wanted]) for given, wanted in case.data_sets]
        yield Case(f"{case.name}_cpu", case.model, sets, case.rtol, case.atol)


def _value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return np.asarray(value)
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _stored(folder: Path) -> Case:
    model, sets = onnx.load(folder / "model.onnx"), []
    for data in sorted(folder.glob("test_data_set*")):
        both = [
            [
                _read(data / f"{kind}_{i}.pb", info.type)
                for i, info in enumerate(infos)
                if (data / f"{kind}_{i}.pb").exists()
            ]
            for kind, infos in (("input", model.graph.input), ("output", model.graph.output))
        ]
        sets.append((both[0], both[1]))
    return Case(f"{folder.name}_cpu", model, sets)


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    content, found = path.read_bytes(), []
    which = {"sequence_type": onnx.SequenceProto, "tensor_type": TensorProto, "optional_type": onnx.OptionalProto}
    proto = which[kind.WhichOneof("value")]()
    proto.ParseFromString(content)
    if isinstance(proto, TensorProto):
        found = numpy_helper.to_array(proto)
    else:
        found = (
            numpy_helper.to_list(proto) if isinstance(proto, onnx.SequenceProto) else numpy_helper.to_optional(proto)
        )
    return found


def _light_model(folder: Path) -> Case:
    """A network whose weights are constants; its input is counted up, as the suite's runner does it."""
    name = folder.name.removeprefix("test_")
    model = onnx.load(DATA / "light" / f"light_{name}.onnx")
    held = {tensor.name for tensor in model.graph.initializer}
    given = [Runner.generate_dummy_data(info) for info in model.graph.input if info.name not in held]
    wanted = TensorProto()
    wanted.ParseFromString((DATA / "light" / f"light_{name}_output_0.pb").read_bytes())
    return Case(f"{folder.name}_cpu", model, [(given, [numpy_helper.to_array(wanted)])], judged=False)


def listed(path: Path) -> dict[str, dict[str, str]]:
    """Of a file with lines ``group test: reason``, the reasons by group and test."""
    found: dict[str, dict[str, str]] = {}
    for line in path.read_text().splitlines():
        place, reason = line.split(": ", 1)
        group, name = place.split(" ")
        found.setdefault(group, {})[name] = reason
    return found


# -- running ---------------------------------------------------------------------------------------------------------


def run(case: Case, prepare: Callable[[onnx.ModelProto], Any]) -> list[Outputs]:
    """The outputs for every set of inputs, held to the suite's tolerance.

    Raises:
        AssertionError: they are not what the suite expects.
    """
    prepared, found = prepare(case.model), []
    for given, wanted in case.sets:
        outputs = list(prepared.run(list(given)))
        Runner.assert_similar_outputs(wanted, outputs, case.rtol, case.atol)
        found.append(outputs)
    return found


# -- the truth -------------------------------------------------------------------------------------------------------


@dataclass
class Judged:
    """How many outputs were held to what follows from arithmetic, and which are not within it."""

    exact: int = 0
    within: int = 0
    over: list[str] = field(default_factory=list)


def judge(case: Case, found: list[Outputs], prepare: Callable[[onnx.ModelProto], Any]) -> Judged:
    """The outputs of a case beside exact ones and float64 ones.

    Args:
        case: a case.
        found: its outputs.
        prepare: gives what runs a model: lucid's.
    """
    result, truth = Judged(), None
    sums = any(node.op_type in SUMMING for node in case.model.graph.node)
    moves = all(_moves(node) for node in case.model.graph.node)
    for (given, wanted), outputs in zip(case.sets, found, strict=True):
        results = None
        for i, (output, expected) in enumerate(zip(outputs, wanted, strict=True)):
            if not isinstance(output, np.ndarray):
                continue
            where = f"{case.name} output {i}"
            if output.dtype not in _FLOATS or moves:
                result.exact += 1
                if output.dtype != expected.dtype or not _equal(output, expected):
                    result.over.append(f"{where}: not equal")
                continue
            if not case.judged:
                continue
            truth = truth or _Truth(case.model, prepare)
            results = results or truth.results(given, wanted)
            ratio = _ratio(output, i, results, sums)
            if ratio is None:
                continue
            result.within += 1
            if not ratio <= 1:
                result.over.append(f"{where}: {ratio:.3g} times what it may be away")
    return result


def _moves(node: onnx.NodeProto) -> bool:
    """Whether the node's results are elements or bits of its operands, and so exact."""
    importer = IMPORTS.get((node.domain, node.op_type))
    return node.op_type == "BitCast" or (importer is not None and importer.moves)


class _Truth:
    """The float64 results of a case's model, and how far they move."""

    def __init__(self, model: onnx.ModelProto, prepare: Callable[[onnx.ModelProto], Any]) -> None:
        self._wide = widened(model)
        self._own = prepare(self._wide)
        self._moved = [prepare(self._wide) for _ in range(DISTURBED)]
        self._other: Any = None
        with contextlib.suppress(Exception):  # what onnx's evaluator does not know
            self._other = ReferenceEvaluator(self._wide)
        unit = _unit(model)
        for seed, moved in enumerate(self._moved):
            _disturb(moved.module, np.random.default_rng(seed), unit)
        self._unit = unit

    def results(self, given: Sequence[Any], wanted: Outputs) -> tuple[Outputs, Outputs, list[Outputs]]:
        """The true outputs, lucid's own in float64, and its own with everything disturbed."""
        exact = [_wide(value) for value in given]
        own = self._own.run(exact)
        moved = [self._run_moved(each, exact, i) for i, each in enumerate(self._moved)]
        return self._by_onnx(exact, own, wanted), own, moved

    def _by_onnx(self, exact: list[Any], own: Outputs, wanted: Outputs) -> Outputs:
        """By onnx's own evaluator where it can, and is nearer to what is wanted; else lucid's."""
        if self._other is None:
            return own
        names = [info.name for info in self._wide.graph.input]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                other = self._other.run(None, dict(zip(names, exact, strict=False)))
        except Exception:
            return own
        fits = all(getattr(a, "shape", None) == getattr(b, "shape", None) for a, b in zip(own, other, strict=True))
        return other if fits and _distance(other, wanted) <= _distance(own, wanted) else own

    def _run_moved(self, moved: Any, exact: list[Any], seed: int) -> Outputs:
        rng, host = np.random.default_rng(100 + seed), self._on_host()
        names = [info.name for info in self._wide.graph.input]
        given = [v if name in host else _moved(v, rng, self._unit) for name, v in zip(names, exact, strict=False)]
        return moved.run(given)

    def _on_host(self) -> set[str]:
        """Inputs that say how, such as scales, and are no operands."""
        found = set()
        for node in self._wide.graph.node:
            importer = IMPORTS.get((node.domain, node.op_type))
            found |= {name for i, name in enumerate(node.input) if importer is not None and importer.on_host(i)}
        return found


def _distance(a: Outputs, b: Outputs) -> float:
    total = 0.0
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and y.dtype in _FLOATS and x.shape == y.shape:
            with np.errstate(all="ignore"):
                away = np.abs(x.astype(np.float64) - y.astype(np.float64))
            total += float(np.sum(away[np.isfinite(away)]))
    return total


def _ratio(output: np.ndarray, i: int, results: tuple[Outputs, Outputs, list[Outputs]], sums: bool) -> float | None:
    """How far an output is from the truth, over how far it may be; None where there is no truth of its shape."""
    truth, own, moved = results
    exact = np.asarray(truth[i], np.float64)
    if exact.shape != output.shape:
        return None
    u = _unit_of(output.dtype)
    with np.errstate(all="ignore"):
        y = output.astype(np.float64)
        moves = [np.abs(np.asarray(each[i], np.float64) - own[i]) for each in moved if each[i].shape == exact.shape]
        change = np.max(moves, 0) if moves else 0.0
        largest = np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0)
        may = ROUNDINGS * (u * np.abs(exact) + change + 2.0**-52 * largest) + _least(output.dtype)
        may = may + 2 * u * largest * sums
        same = (y == exact) | (np.isnan(y) & np.isnan(exact)) | _overflown(y, exact, output.dtype)
        return float(np.max(np.where(same | ~np.isfinite(may), 0.0, np.abs(y - exact) / may), initial=0.0))


def _disturb(module: OnnxModule, rng: np.random.Generator, unit: float) -> None:
    """Let every parameter, and every float that a node makes on the way, be off by a relative ``unit``."""
    for parameter in module.parameters():
        array = parameter.numpy()
        parameter.data = lucid.tensor(_moved(array, rng, unit))
    operators = [each for each in module.modules() if isinstance(each, Operator)]
    for operator in operators if len(operators) > 1 else []:
        if not operator.importer.moves and operator.importer.host is not None:
            operator.register_forward_hook(partial(_off, rng, unit))


def _off(rng: np.random.Generator, unit: float, module: Any, given: Any, made: Any) -> Any:
    return tuple(_moved(v, rng, unit) for v in made) if isinstance(made, tuple) else _moved(made, rng, unit)


def _moved(value: Any, rng: np.random.Generator, unit: float) -> Any:
    """Floats in float64, each more or less by ``unit``."""
    if isinstance(value, list):
        return [_moved(each, rng, unit) for each in value]
    if not hasattr(value, "dtype") or value.dtype != np.float64:
        return value
    factor = 1 + unit * rng.choice([-1.0, 1.0], value.shape)
    return value * (lucid.tensor(factor) if isinstance(value, lucid.Tensor) else factor)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))


def _overflown(y: np.ndarray, exact: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.isinf(y) & (np.abs(exact) >= float(ml_dtypes.finfo(dtype).max))


def _unit_of(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).eps) / 2


def _least(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).smallest_subnormal)


def _unit(model: onnx.ModelProto) -> float:
    """Of the narrowest float type that the model declares."""
    kinds = {info.type.tensor_type.elem_type for info in (*model.graph.input, *model.graph.output)}
    kinds |= {tensor.data_type for tensor in model.graph.initializer}
    dtypes = [helper.tensor_dtype_to_np_dtype(kind) for kind in kinds if kind]
    return max((_unit_of(dtype) for dtype in dtypes if dtype in _FLOATS), default=2.0**-24)


def _wide(value: Any) -> Any:
    if isinstance(value, list):
        return [_wide(each) for each in value]
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype in _FLOATS else value


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all its floats in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for function in wide.functions:
        _widen_nodes(function.node)
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    for info in (*graph.input, *graph.output):
        _widen_type(info.type)
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    _widen_nodes(graph.node)


def _widen_nodes(these: Any) -> None:
    for node in these:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _widen_graph(attribute.g)
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _WIDENED:
                attribute.i = TensorProto.DOUBLE
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
        if node.op_type == "Constant" and node.attribute[0].name in ("value_float", "value_floats"):
            values = np.asarray(helper.get_attribute_value(node.attribute[0]), np.float64)
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(values)))


def _widen_type(kind: onnx.TypeProto) -> None:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        part = getattr(kind, which)
        if part.elem_type in _WIDENED:
            part.elem_type = TensorProto.DOUBLE
    elif which in ("sequence_type", "optional_type"):
        _widen_type(getattr(kind, which).elem_type)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _WIDENED:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), name))
