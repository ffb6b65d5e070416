"""One declaration of a kernel, and what is made of it by name: C++ bindings, CUDA launches, the backends' methods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bits import assert_same_bits
from support.families import named

import lucid
from lucid.backends import _compiled, _cuda_source, get_backend
from lucid.backends.shapes import abstract
from lucid.kernels.declare import DENSE, kernel, kernels

DEF = "".join(path.read_text() for path in (Path(lucid.__file__).parent / "kernels").glob("*/kernels.def"))
COMPILED = dict(re.findall(r"^KERNEL\(\w+, (\w+), ([^)]*(?:\n[^)]*)?)\)", DEF, re.MULTILINE))
DECLARED = {k.name: k for k in kernels()}
LAUNCHED = [name for name, k in DECLARED.items() if k.sizes is not None]


@pytest.fixture
def native() -> Any:
    return pytest.importorskip("_lucid_native")


def arrays(*shapes: int, dtype: Any = np.float32) -> list[np.ndarray]:
    return [np.ones(shape, dtype) for shape in shapes]


def test_every_kernel_is_bound_under_its_name(native: Any) -> None:
    assert len(COMPILED) > 30
    for name, parameters in COMPILED.items():
        assert getattr(native, name).__doc__ == " ".join(parameters.split())


def test_arguments_go_by_name_in_any_order(native: Any) -> None:
    a, b, y = arrays(3, 3, 3)
    b *= 4
    for given in (
        {"op": "sub", "n": 3, "a": a, "b": b, "y": y},
        {"y": y, "b": b, "n": 3, "a": a, "op": "".join(["s", "ub"])},
    ):
        y[...] = 0
        native.binary(**given)
        assert y.tolist() == [-3, -3, -3]
        y[...] = 0
        native.binary(given)
        assert y.tolist() == [-3, -3, -3]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": None}, TypeError, None),
        ({"z": 1}, TypeError, "unary: got 'z'; takes Unary op"),
        ({"op": "rely"}, ValueError, "unary: op: got 'rely'; must be a value of Unary"),
        ({"op": 8}, ValueError, "unary: op: got 8"),
        ({"y": np.ones(2)}, TypeError, r"unary: y: got an array of 'd'; must be T\*, T is float"),
        ({"x": np.ones(2, np.int32)}, TypeError, "unary: x: got an array of 'i'"),
        ({"x": None}, TypeError, None),
        ({"y": np.broadcast_to(np.float32(1), 2)}, ValueError, "read-only"),
        ({"y": ...}, TypeError, "unary: y is missing"),
    ],
)
def test_a_wrong_argument_is_named(native: Any, change: dict[str, Any], error: Any, message: str | None) -> None:
    x, y = arrays(2, 2)
    given = {"op": "relu", "n": 2, "x": x, "y": y, **change}
    with pytest.raises(error, match=message):
        native.unary(**{name: value for name, value in given.items() if value is not ...})
    with pytest.raises(TypeError, match="takes keywords"):
        native.unary("relu", 2, x, y)


def test_a_structure_is_its_fields(native: Any) -> None:
    ones = (
        "n",
        "c",
        "d",
        "kd",
        "od",
        "oh",
        "ow",
        *[f"{what}_{side}" for what in ("stride", "dilation") for side in "dhw"],
    )
    zeros = ("pad_d", "pad_h", "pad_w")
    fields = {**dict.fromkeys(ones, 1), **dict.fromkeys(zeros, 0), **dict.fromkeys(("h", "w", "kh", "kw"), 2)}
    fields |= {"count_include_pad": False, "adaptive": False}
    x, (y,) = np.arange(4, dtype=np.float32), arrays(1)
    for given in (fields, {"pool": native.Pool(**fields)}, {"pool": native.Pool(dict(reversed(fields.items())))}):
        y[...] = 0
        native.avg_pool(**given, x=x, y=y)
        assert y.tolist() == [1.5]
    with pytest.raises(TypeError, match="Pool: adaptive is missing"):
        native.Pool({name: value for name, value in fields.items() if name != "adaptive"})
    with pytest.raises(TypeError, match="avg_pool: n is missing"):
        native.avg_pool(x=x, y=y)
    sgd = native.Sgd(lr=1, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False, first=True)
    with pytest.raises(TypeError, match=r"avg_pool: pool: got .*; must be a const Pool&"):
        native.avg_pool(pool=sgd, x=x, y=y)


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_a_declaration_stores_is_what_the_kernels_take(name: str) -> None:
    k = DECLARED[name]
    pointers = set(re.findall(r"(?:\*|>) (\w+)", COMPILED[k.launch]))
    assert set(k.layout) <= pointers
    if k.launch in _cuda_source.signatures():  # convolutions are contractions there
        parameters = _cuda_source.signatures()[k.launch].parameters
        assert set(k.layout) == {p.name for p in parameters if p.structure is None and p.number is None}


def test_the_order_of_cuda_arguments_is_the_sources() -> None:
    x, y = arrays(3, 3)
    given = {"y": y, "n": 3, "x": x}
    file, arguments = _cuda_source.in_order("unary", given)
    assert file == "elementwise.cu"
    assert arguments[0] == 3
    assert arguments[1] is x
    assert arguments[2] is y
    with pytest.raises(TypeError, match=r"elementwise.cu: kernel 'unary': 'x' is missing"):
        _cuda_source.in_order("unary", {"y": y, "n": 3})
    with pytest.raises(TypeError, match=r"elementwise.cu: kernel 'unary' has no parameter z"):
        _cuda_source.in_order("unary", {**given, "z": x})


def test_a_value_of_a_cuda_enumeration_has_a_name() -> None:
    names = _cuda_source.signatures()["nll_loss"].parameters
    given = {parameter.name: 0 for parameter in names}
    place = [parameter.name for parameter in names].index("reduction")
    assert _cuda_source.in_order("nll_loss", {**given, "reduction": "mean"})[1][place] == 2
    with pytest.raises(TypeError, match="'median' is missing"):
        _cuda_source.in_order("nll_loss", {**given, "reduction": "median"})


def test_a_cuda_structure_is_put_by_name() -> None:
    packed = _cuda_source.structure("Contraction", {"n": 7, "m": 5, "skip_w": 9})
    values = np.frombuffer(packed.tobytes(), np.int64)
    fields = _cuda_source.fields_of("Contraction")
    assert {field: int(value) for field, value in zip(fields, values, strict=True) if value} == {
        "m": 5,
        "n": 7,
        "skip_w": 9,
    }
    assert len(fields) == 48


INSTANCES = {
    "contract": "contract_FORWARD_SMALL_0_0",
    "unary": "unary_relu",
    "binary": "binary_add",
    "update": "update_adam",
    "compare": "compare_less",
}
"""One of the kernels that a macro makes."""


def test_the_emulator_was_compiled_from_the_same_signatures() -> None:
    """As many parameters, of the same kinds, as the text says: pointers, structures of that many bytes, numbers."""
    try:
        library = get_backend("emulated")._executor._library  # type: ignore[attr-defined]
    except RuntimeError as error:
        pytest.skip(str(error))
    for name, signature in _cuda_source.signatures().items():
        instance = INSTANCES.get(name, name)
        spelled = library.lucid_emulated_signature(f"float {instance}".encode()).decode().split()
        expected = [
            f"s{8 * len(_cuda_source.fields_of(p.structure))}" if p.structure else "p" if p.number is None else "number"
            for p in signature.parameters
        ]
        assert [w if w[0] == "s" else "p" if w[0] == "p" else "number" for w in spelled] == expected, name


def test_every_backend_has_every_kernel() -> None:
    for name in lucid.backends.available_backends():
        assert [k for k in DECLARED if not callable(getattr(get_backend(name), k, None))] == []
    with pytest.raises(AttributeError, match="ReferenceBackend has no kernel 'convolve'"):
        get_backend("reference").convolve()


def test_a_declaration_without_sizes_is_refused_by_a_compiled_backend() -> None:
    with pytest.raises(TypeError, match="kernel 'reduce': has no sizes"):
        _compiled.launched(DECLARED["reduce"])


CALLS = {
    "a seed is no part of the key": [("uniform", (seed, 2, 3, 8, -1.0, 2.0, np.float32)) for seed in (5, 6)],
    "nor are bounds": [("uniform", (5, 2, 3, 8, low, 2.0, np.float32)) for low in (-1.0, 0.5)],
    "a length is": [("normal", (5, 2, 3, n, 0.0, 1.0, np.float32)) for n in (8, 3)],
    "a dtype is": [("normal", (5, 2, 3, 8, 0.0, 1.0, dtype)) for dtype in (np.float32, np.float64)],
    "the dtype of an array": [("log_softmax", (np.eye(3, dtype=dtype), 1)) for dtype in (np.float32, np.float64)],
    "an axis": [("log_softmax", (np.tri(3, dtype=np.float32), axis)) for axis in (0, 1, -1, -2)],
    "an array that may be None": [
        ("nll_loss", (np.ones((2, 3), np.float32), np.array([0, 2]), weight, ignore, "mean"))
        for weight in (None, np.arange(1, 4, dtype=np.float32))
        for ignore in (-100, 0)
    ],
}
"""Calls one after the other, of which a launch must not take one for another."""


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("known", [1024, 1], ids=["known", "forgotten"])
def test_a_launch_works_out_once_what_it_may(case: str, known: int, native: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(_compiled, "KNOWN", known)
    be, reference = get_backend("native"), get_backend("reference")
    for name, arguments in CALLS[case] * 2:
        got, expected = (dict(named(getattr(backend, name)(*arguments))) for backend in (be, reference))
        assert_same_bits(got, expected, name)


def test_a_new_kernel_is_a_declaration(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declared for a test: the body is the reference, the shape rule a dry run, the launch calls a kernel by name."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("lucid.kernels.declare.KERNELS", found)

    @kernel("4", returns=lambda x: {"y": ((), x.dtype)}, layout={"x": DENSE, "y": DENSE}, launch="reduce",
            sizes=lambda x: {"op": "max", "outer": 1, "terms": x.size, "inner": 1})  # fmt: skip
    def largest(x: Any) -> Any:
        return np.asarray(x.max())

    made = found["largest"]
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert largest(x) == _compiled.launched(made)(get_backend("native"), x) == 11
    assert made.returns(abstract((3, 4), np.float64)) == {"y": ((), np.dtype(np.float64))}
