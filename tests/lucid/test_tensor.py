"""Tensors: what they are made from, what they become, how they are indexed and written, and what they refuse."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import math
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lucid

tensor_module = sys.modules["lucid.core.tensor"]
F32, F64, I64, BOOL = lucid.float32, lucid.float64, lucid.int64, lucid.bool_


# -- making them ------------------------------------------------------------------------------------------------------

MADE: dict[str, tuple[Callable[[], lucid.Tensor], np.dtype[Any], tuple[int, ...]]] = {
    "Tensor of float64 array": (lambda: lucid.Tensor(np.zeros((2, 3))), F32, (2, 3)),
    "Tensor of integers": (lambda: lucid.Tensor([1, 2]), F32, (2,)),
    "Tensor of booleans": (lambda: lucid.Tensor([True]), F32, (1,)),
    "Tensor with dtype": (lambda: lucid.Tensor([1, 2], dtype=lucid.Int32), lucid.int32, (2,)),
    "Tensor of a tensor": (lambda: lucid.Tensor(lucid.zeros(2, dtype=F64)), F32, (2,)),
    "Tensor of a number": (lambda: lucid.Tensor(3), F32, ()),
    "tensor of float64 array": (lambda: lucid.tensor(np.zeros((2, 3))), F64, (2, 3)),
    "tensor of Python floats": (lambda: lucid.tensor([[1.0], [2.0]]), F32, (2, 1)),
    "tensor of Python integers": (lambda: lucid.tensor([1, 2]), I64, (2,)),
    "tensor of Python booleans": (lambda: lucid.tensor([True, False]), BOOL, (2,)),
    "tensor of a NumPy number": (lambda: lucid.tensor(np.float64(1.0)), F64, ()),
    "tensor of PyTorch's": (lambda: lucid.tensor(torch.zeros(2, dtype=torch.float64)), F64, (2,)),
    "tensor of nothing": (lambda: lucid.tensor([]), F32, (0,)),
    "tensor of big-endian": (lambda: lucid.tensor(np.zeros(2, ">f4")), F32, (2,)),
    "tensor of tensors": (lambda: lucid.tensor([lucid.zeros(2), lucid.ones(2)]), F32, (2, 2)),
    "half precision": (lambda: lucid.tensor([1.0], dtype=lucid.Float16), lucid.float16, (1,)),
    "zeros": (lambda: lucid.zeros((2, 3)), F32, (2, 3)),
    "ones with numbers": (lambda: lucid.ones(2, 3, dtype=F64), F64, (2, 3)),
    "no axes": (lambda: lucid.zeros(()), F32, ()),
    "empty": (lambda: lucid.empty(0, 3), F32, (0, 3)),
    "full of a float": (lambda: lucid.full((2,), 1.5), F32, (2,)),
    "full of an integer": (lambda: lucid.full((2,), 1), I64, (2,)),
    "eye": (lambda: lucid.eye(2, 3), F32, (2, 3)),
    "arange of integers": (lambda: lucid.arange(2, 8, 2), I64, (3,)),
    "arange of floats": (lambda: lucid.arange(0.0, 1.0, 0.25), F32, (4,)),
    "linspace": (lambda: lucid.linspace(0, 1, 3), F32, (3,)),
    "zeros_like": (lambda: lucid.zeros_like(lucid.ones(2, dtype=F64)), F64, (2,)),
    "ones_like with dtype": (lambda: lucid.ones_like(lucid.zeros(2), dtype=I64), I64, (2,)),
    "empty_like": (lambda: lucid.empty_like(lucid.zeros(2, 1)), F32, (2, 1)),
    "full_like": (lambda: lucid.full_like(lucid.zeros(2, 1), 7), F32, (2, 1)),
}


@pytest.mark.parametrize("name", MADE)
def test_dtype_and_shape(name: str) -> None:
    make, dtype, shape = MADE[name]
    x = make()
    assert (x.dtype, x.shape, x.ndim, x.size) == (dtype, shape, len(shape), math.prod(shape))
    assert (x.requires_grad, x.is_leaf, x.device) == (False, True, "cpu")


def test_values() -> None:
    assert lucid.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert lucid.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert lucid.linspace(1, 2, 3).tolist() == [1.0, 1.5, 2.0]
    assert lucid.full_like(lucid.zeros(2, dtype=I64), 7).tolist() == [7, 7]


def test_data_is_copied_or_shared() -> None:
    a = np.zeros(2, np.float32)
    copies, shared = (
        [lucid.Tensor(a), lucid.tensor(a)],
        [lucid.to_tensor(a), lucid.from_dlpack(a), lucid.nn.Parameter(a)],
    )
    a[0] = 1.0
    assert [x.tolist()[0] for x in copies] == [0.0, 0.0]
    assert [x.tolist()[0] for x in shared] == [1.0, 1.0, 1.0]


def test_default_dtype() -> None:
    lucid.set_default_dtype(F64)
    try:
        assert lucid.tensor(1.0).dtype == F64
        assert lucid.Tensor(np.zeros(2, np.float32)).dtype == F64
        assert lucid.nn.Linear(2, 2).weight.dtype == F64
        assert lucid.random.rand(2).dtype == F64
    finally:
        lucid.set_default_dtype(F32)
    with pytest.raises(TypeError, match="int64"):
        lucid.set_default_dtype(I64)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "ragged": (lambda: lucid.tensor([[1.0], [2.0, 3.0]]), ValueError, "different lengths"),
    "text": (lambda: lucid.tensor("abc"), TypeError, "data: got 'abc', which makes <U3"),
    "objects": (lambda: lucid.tensor([object()]), TypeError, "which makes object"),
    "complex": (lambda: lucid.tensor([1j]), TypeError, "complex128"),
    "complex dtype": (lambda: lucid.zeros(2, dtype=complex), TypeError, "complex128"),
    "unknown dtype": (lambda: lucid.zeros(2, dtype="float17"), TypeError, "'float17'"),
    "unknown device": (lambda: lucid.tensor([1.0], device="moon"), ValueError, "'moon'"),
    "negative length": (lambda: lucid.zeros(2, -1), ValueError, "-1"),
    "fractional length": (lambda: lucid.zeros(2.5), TypeError, "float"),
    "arange without step": (lambda: lucid.arange(0, 1, 0), ValueError, "step"),
    "linspace of a negative number": (lambda: lucid.linspace(0, 1, -1), ValueError, "num"),
    "float dtypes in a sum": (
        lambda: lucid.ones(2) + lucid.ones(2, dtype=F64),
        TypeError,
        "add: got tensors of dtype float32 and float64",
    ),
    "float dtypes with an array": (lambda: lucid.ones(2) * np.ones(2), TypeError, "mul: .* float32 and float64"),
    "array with float dtypes": (lambda: np.ones(2) * lucid.ones(2), TypeError, "mul: .* float64 and float32"),
    "float dtypes in a product": (lambda: lucid.ones(2, 2) @ lucid.ones(2, 2, dtype=F64), TypeError, "matmul"),
    "float dtypes joined": (
        lambda: lucid.concatenate([lucid.ones(2), lucid.ones(2, dtype=F64)]),
        TypeError,
        "concatenate",
    ),
    "float dtypes compared": (lambda: lucid.ones(2) > lucid.ones(2, dtype=F64), TypeError, "greater"),
    "float dtypes in where": (
        lambda: lucid.where(lucid.tensor([True]), lucid.ones(1), lucid.ones(1, dtype=F64)),
        TypeError,
        "where",
    ),
    "half precision arithmetic": (
        lambda: lucid.ones(2, dtype=lucid.float16) + 1,
        TypeError,
        "float16 .*float32 or float64",
    ),
    "half precision alone": (lambda: lucid.relu(lucid.ones(2, dtype=lucid.float16)), TypeError, "relu.*float16"),
    "text operand": (lambda: lucid.ones(2) + "a", TypeError, "add: got str"),
    "None operand": (lambda: lucid.ones(2) * None, TypeError, "mul: got NoneType"),
    "shapes": (lambda: lucid.ones(2, 3) + lucid.ones(4), ValueError, r"add: shapes \(2, 3\) and \(4,\)"),
    "product shapes": (lambda: lucid.ones(2, 3) @ lucid.ones(2, 3), ValueError, "matmul"),
    "product without axes": (lambda: lucid.matmul(lucid.ones(2), 3.0), ValueError, "need an axis"),
    "batch shapes": (lambda: lucid.ones(2, 3, 4) @ lucid.ones(3, 4, 5), ValueError, "matmul: shapes"),
    "dot of many axes": (lambda: lucid.dot(lucid.ones(2, 2, 2), lucid.ones(2)), ValueError, "two axes"),
    "exponent text": (lambda: lucid.ones(2) ** "2", TypeError, "power: got str as an operand"),
    "where without booleans": (lambda: lucid.where(lucid.ones(2), 1.0, 0.0), TypeError, "must be boolean"),
    "mask too large": (
        lambda: lucid.ones(2).masked_fill(lucid.tensor([[True], [False]]), 0.0),
        ValueError,
        "does not broadcast to shape",
    ),
    "difference of booleans": (lambda: lucid.tensor([True]) - lucid.tensor([True]), TypeError, "booleans"),
    "clip without bounds": (lambda: lucid.clip(lucid.ones(2)), ValueError, "neither"),
    "reshape": (lambda: lucid.ones(6).reshape(4, -1), ValueError, r"got \(4, -1\) .*6 elements"),
    "reshape twice unknown": (lambda: lucid.ones(6).reshape(-1, -1), ValueError, "one may be -1"),
    "reshape of nothing": (lambda: lucid.ones(0).reshape(0, -1), ValueError, "0 elements"),
    "axis": (lambda: lucid.ones(2, 3).sum(2), ValueError, "sum: got axis 2 .*-2 to 1"),
    "axis of sums": (lambda: lucid.cumsum(lucid.ones(2, 3), -3), ValueError, "cumsum: got axis -3 .*-2 to 1"),
    "axis of a number": (lambda: lucid.tensor(1.0).cumsum(0), ValueError, "cumsum: got axis 0 .* must have one"),
    "several axes of sums": (lambda: lucid.cumsum(lucid.ones(2, 3), (0, 1)), TypeError, "tuple"),
    "axis twice": (lambda: lucid.ones(2, 3).sum((0, -2)), ValueError, "named once"),
    "axes of a transposition": (lambda: lucid.ones(2, 3, 4).transpose(0, 1), ValueError, "swapaxes"),
    "flatten backwards": (lambda: lucid.ones(2, 3).flatten(1, 0), ValueError, "behind"),
    "unsqueeze": (lambda: lucid.ones(2).unsqueeze(3), ValueError, "axis 3"),
    "broadcast_to": (lambda: lucid.ones(2, 3).broadcast_to(2, 1), ValueError, "does not broadcast"),
    "stack of other shapes": (lambda: lucid.stack([lucid.ones(2), lucid.ones(3)]), ValueError, "must be equal"),
    "joining of other shapes": (
        lambda: lucid.concatenate([lucid.ones(2, 2), lucid.ones(2, 3)]),
        ValueError,
        "may differ in axis 0 only",
    ),
    "joining nothing": (lambda: lucid.concatenate([]), ValueError, "got none"),
    "split sizes": (lambda: lucid.split(lucid.ones(5), [2, 2]), ValueError, "add up to 5"),
    "split of zero": (lambda: lucid.split(lucid.ones(5), 0), ValueError, "at least 1"),
    "chunks": (lambda: lucid.chunk(lucid.ones(5), 0), ValueError, "at least 1"),
    "pad": (lambda: lucid.pad(lucid.ones(2, 2), ((1, 2), (1, 2), (1, 2))), ValueError, "2 pairs"),
    "pad inwards": (lambda: lucid.pad(lucid.ones(2), -1), ValueError, "0 or more"),
    "largest of nothing": (lambda: lucid.ones(0).max(), ValueError, "max: got shape"),
    "where the largest of nothing is": (lambda: lucid.ones(0, 2).argmax(0), ValueError, "argmax: got shape"),
    "mean of integers": (lambda: lucid.arange(3).mean(), TypeError, "mean: got a int64"),
    "index": (lambda: lucid.ones(2)[2], IndexError, "out of bounds"),
    "indices": (lambda: lucid.ones(2)[0, 0], IndexError, "too many"),
    "item of several": (lambda: lucid.ones(2).item(), ValueError, "must have one"),
    "truth of several": (lambda: bool(lucid.ones(2)), ValueError, "ambiguous"),
    "length without axes": (lambda: len(lucid.tensor(1.0)), TypeError, "no length"),
    "float as an index": (lambda: [1, 2][lucid.tensor(1.0)], TypeError, "integer tensor"),
    "threads": (lambda: lucid.set_num_threads(0), ValueError, "at least 1"),
    "backend": (lambda: lucid.set_backend("abacus"), ValueError, "'abacus'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    action, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        action()


# -- leaving lucid ----------------------------------------------------------------------------------------------------


def test_leaving() -> None:
    x = lucid.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.shares_memory(x.numpy(), x.data)
    assert np.shares_memory(np.asarray(x), x.data)
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert x[1, 0].item() == 3.0
    assert np.exp(x).shape == (2, 2)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(x, dtype=np.float64, copy=False)


def test_dlpack_to_pytorch_and_back() -> None:
    x = lucid.tensor([[1.0, 2.0], [3.0, 4.0]]).T
    theirs = torch.from_dlpack(x)
    theirs[0, 1] = 9.0
    assert x[0, 1].item() == 9.0
    assert lucid.from_dlpack(theirs).tolist() == x.tolist()
    with pytest.raises(TypeError, match="complex64"):
        lucid.from_dlpack(torch.zeros(1, dtype=torch.complex64))


def test_python_numbers() -> None:
    x = lucid.tensor(2)
    assert (int(x), float(x), [7, 8, 9][x], bool(x), f"{x:03d}") == (2, 2.0, 9, True, "002")
    assert f"{lucid.tensor([1.0])}" == "tensor([1.])"


def test_sequence_protocol() -> None:
    x = lucid.tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    _, b = x
    assert b.tolist() == [3, 4]


REPRESENTATIONS = [
    (lambda: lucid.tensor([1.0]), "tensor([1.])"),
    (lambda: lucid.tensor([1]), "tensor([1])"),
    (lambda: lucid.tensor([1.0], dtype=F64), "tensor([1.], dtype=float64)"),
    (lambda: lucid.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    (lambda: lucid.tensor([1.0], requires_grad=True) * 2, "tensor([2.], made_by=mul)"),
    (lambda: lucid.zeros(0, 3), "tensor([], shape=(0, 3))"),
    (lambda: lucid.nn.Parameter([1.0]), "Parameter([1.], requires_grad=True)"),
    (lambda: lucid.nn.Buffer([1.0]), "Buffer([1.])"),
]


@pytest.mark.parametrize(("make", "text"), REPRESENTATIONS, ids=[text for _, text in REPRESENTATIONS])
def test_repr(make: Callable[[], lucid.Tensor], text: str) -> None:
    assert repr(make()) == text


def test_deep_copies_are_leaves_of_their_own() -> None:
    x = lucid.nn.Parameter([1.0, 2.0])
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    y.data[0] = 5.0
    assert isinstance(y, lucid.nn.Parameter)
    assert y.requires_grad
    assert y.grad.tolist() == x.grad.tolist() == [2.0, 4.0]
    assert x.tolist() == [1.0, 2.0]


# -- operands ---------------------------------------------------------------------------------------------------------

OPERANDS: dict[str, tuple[Callable[[], lucid.Tensor], np.dtype[Any], Any]] = {
    "float number on integers": (lambda: lucid.tensor([1, 2]) + 0.5, F32, [1.5, 2.5]),
    "integer number on floats": (lambda: lucid.ones(2, dtype=F64) + 1, F64, [2, 2]),
    "number is narrowed": (lambda: lucid.zeros(1) + 0.1, F32, [float(np.float32(0.1))]),
    "integers on floats": (lambda: lucid.ones(2) * lucid.arange(2), F32, [0, 1]),
    "booleans on floats": (lambda: lucid.ones(2) * lucid.tensor([True, False]), F32, [1, 0]),
    "integers of two sizes": (lambda: lucid.tensor([1], dtype=lucid.int8) + lucid.tensor([300]), I64, [301]),
    "number on booleans": (lambda: lucid.tensor([True, False]) + 1, I64, [2, 1]),
    "integer division": (lambda: lucid.tensor([1, 2]) / 2, F32, [0.5, 1.0]),
    "number divided by integers": (lambda: 1 / lucid.tensor([2, 4]), F32, [0.5, 0.25]),
    "exact integers": (lambda: lucid.tensor([2**53 + 1]) + 0, I64, [2**53 + 1]),
    "exact sum of integers": (lambda: lucid.tensor([2**53, 1, 0]).sum(), I64, 2**53 + 1),
    "exact sums of integers": (lambda: lucid.tensor([[2**53, 1, -3]]).cumsum(1), I64, [[2**53, 2**53 + 1, 2**53 - 2]]),
    "sums of booleans": (lambda: lucid.cumsum([[True], [False], [True]], 0), I64, [[1], [1], [2]]),
    "array left": (lambda: np.float32([1, 2]) - lucid.ones(2), F32, [0, 1]),
    "NumPy number": (lambda: np.float64(2.0) * lucid.ones(2), F32, [2, 2]),
    "list index": (lambda: lucid.relu([-1.0, 2.0]), F32, [0, 2]),
    "integers rectified": (lambda: lucid.relu(lucid.tensor([-1, 2])), I64, [0, 2]),
    "integers negated": (lambda: -lucid.tensor([-1, 2]), I64, [1, -2]),
    "integers squared": (lambda: lucid.square(lucid.tensor([-3])), I64, [9]),
    "exponential of integers": (lambda: lucid.exp(lucid.tensor([0])), F32, [1.0]),
    "integers clipped": (lambda: lucid.clip(lucid.arange(4), 1, 2), I64, [1, 1, 2, 2]),
    "powers": (lambda: lucid.tensor([2.0]) ** -2, F32, [0.25]),
    "negative numbers compared": (lambda: lucid.tensor([-1.0, 1.0]) < 0, BOOL, [True, False]),
    "equality": (lambda: lucid.tensor([1, 2]) == lucid.tensor([1, 3]), BOOL, [True, False]),
    "inequality": (lambda: lucid.tensor([1, 2]) != 1, BOOL, [False, True]),
    "logic": (lambda: ~(lucid.tensor([True, False]) & True) | False, BOOL, [False, True]),
    "smallest of integers": (lambda: lucid.tensor([3, 1]).min(), I64, 1),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_operands(backend: str, name: str) -> None:
    make, dtype, values = OPERANDS[name]
    x = make()
    assert isinstance(x, lucid.Tensor)
    assert x.dtype == dtype
    assert x.tolist() == values


def test_equality_with_other_things() -> None:
    x = lucid.ones(1)
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    assert x in [x]
    assert len({x, x, lucid.ones(1)}) == 2


# -- indexing ---------------------------------------------------------------------------------------------------------

INDICES: list[Any] = [
    0,
    -1,
    (1, 2),
    slice(1, None),
    (slice(None), 1),
    (slice(None, None, -1), slice(None, None, 2)),
    ...,
    (..., 0),
    None,
    (slice(None), None, 1),
    [2, 0, 0],
    ([0, 1], [1, 0]),
    (slice(None), [3, 1]),
    np.array([[0, 1], [2, 0]]),
    np.array([True, False, True]),
    (0, [1, 1]),
    (),
    slice(0, 0),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_numpys(backend: str, index: Any) -> None:
    array = np.arange(24.0).reshape(3, 4, 2)
    x = lucid.tensor(array, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), array[index])
    assert isinstance(y.data, type(x.data))
    y.backward(lucid.ones_like(y))
    expected = np.zeros_like(array)
    np.add.at(expected, index, 1.0)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_tensors_as_indices() -> None:
    x = lucid.arange(6.0).reshape(2, 3)
    assert x[lucid.tensor([1, 0]), lucid.tensor([2, 2])].tolist() == [5.0, 2.0]
    assert x[x > 3].tolist() == [4.0, 5.0]
    assert x[lucid.tensor(1)].tolist() == [3.0, 4.0, 5.0]


def test_basic_indexing_and_reshaping_are_views() -> None:
    x = lucid.zeros(4, 3)
    for view in (
        x[1],
        x[1:, ::2],
        x[0, 0],
        x.reshape(3, 4),
        x.T,
        x.unsqueeze(0),
        x.flatten(),
        x.swapaxes(0, 1),
        x.detach(),
    ):
        assert np.shares_memory(view.data, x.data)
    for copied in (x[[0, 1]], x[x == 0], x.T.reshape(-1), x.clone(), x.astype(F64), x * 1):
        assert not np.shares_memory(copied.data, x.data)


def test_writing() -> None:
    x = lucid.zeros(2, 3)
    x[0] = 1
    x[:, 1] = lucid.tensor([5.0, 6.0])
    x[x == 6] = 7.0
    assert x.tolist() == [[1, 5, 1], [0, 7, 0]]
    assert x.copy_([[1], [2]]) is x
    assert x.fill_(3).zero_().sum().item() == 0.0
    with pytest.raises(ValueError, match="broadcast"):
        x[0] = [1, 2]


def test_layouts_do_not_matter(backend: str) -> None:
    array = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    plain = lucid.tensor(array)
    nhwc = lucid.to_tensor(np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
    assert not nhwc.is_contiguous()
    assert nhwc.contiguous().is_contiguous()
    for function in (
        lambda x: x.reshape(6, 20),
        lambda x: x.sum((1, 3)),
        lambda x: (x + x.T.T)[:, 1],
        lambda x: lucid.nn.functional.log_softmax(x, 1),
        lambda x: lucid.nn.functional.avg_pool2d(x, 2),
        lambda x: x.flatten(1) @ lucid.ones(60, 2, dtype=F64),
        lambda x: lucid.concatenate([x, plain], 1),
    ):
        np.testing.assert_array_equal(function(nhwc).numpy(), function(plain).numpy())


CONVERSIONS = [
    (lambda x: x.astype(I64), I64),
    (lambda x: x.double(), F64),
    (lambda x: x.double().float(), F32),
    (lambda x: x.long(), I64),
    (lambda x: x.to(lucid.float16), lucid.float16),
    (lambda x: x.to("float64"), F64),
    (lambda x: x.to("cpu"), F32),
    (lambda x: x.cpu(), F32),
]


@pytest.mark.parametrize(("convert", "dtype"), CONVERSIONS)
def test_conversions(convert: Callable[[lucid.Tensor], lucid.Tensor], dtype: Any) -> None:
    assert convert(lucid.ones(2)).dtype == dtype


def test_conversion_to_the_same_is_the_same() -> None:
    x = lucid.ones(2)
    assert x.astype(F32) is x
    assert x.to("cpu") is x
    assert x.is_cpu()
    assert not x.is_gpu()


def test_shapes_may_be_given_as_numbers_or_tuples() -> None:
    x = lucid.zeros(2, 3)
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == x.view([3, 2]).shape == (3, 2)
    assert x.permute(1, 0).shape == x.permute((1, 0)).shape == x.transpose(1, 0).shape == x.transpose().shape == (3, 2)
    assert x.expand(4, -1, 3).shape == x.broadcast_to((4, 2, 3)).shape == (4, 2, 3)
    assert (x.numel(), x.mT.shape, x.ravel().shape) == (6, (3, 2), (6,))
    assert lucid.zeros(0, 2).ravel().shape == (0,)
    assert lucid.tensor(1.0).flatten().shape == (1,)


@pytest.mark.parametrize("sizes", [2, [1, 0, 4], [5]])
def test_split_and_chunk(sizes: Any) -> None:
    array = np.arange(10).reshape(2, 5)
    parts = lucid.split(lucid.tensor(array), sizes, 1)
    expected = torch.split(torch.tensor(array), sizes, 1)
    assert [p.tolist() for p in parts] == [p.tolist() for p in expected]
    for chunks in (1, 2, 3, 7):
        ours, theirs = lucid.chunk(lucid.tensor(array), chunks, 1), torch.chunk(torch.tensor(array), chunks, 1)
        assert [p.tolist() for p in ours] == [p.tolist() for p in theirs]


def test_ties_and_nans_of_extrema(backend: str) -> None:
    x = lucid.tensor([[1.0, 3.0, 3.0], [float("nan"), 1.0, 2.0]], requires_grad=True)
    y = x.max(1)
    assert y[0].item() == 3.0
    assert math.isnan(y[1].item())
    y.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]
    assert x.argmax(1).tolist() == [1, 0]
    assert x.detach()[0].argmin().item() == 0


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min", "argmax", "argmin", "all", "any"])
def test_reductions_keep_axes(backend: str, name: str) -> None:
    x = lucid.tensor(np.random.default_rng(0).standard_normal((2, 3, 4)))
    reduce = getattr(x, name)
    assert reduce().shape == ()
    assert reduce(1).shape == (2, 4)
    assert reduce(-1, keepdims=True).shape == (2, 3, 1)
    if not name.startswith("arg"):
        assert reduce((0, 2)).shape == (3,)
        assert reduce((0, 2), keepdims=True).shape == (1, 3, 1)


def test_reductions_of_one_number(backend: str) -> None:
    for name in ("sum", "mean", "max", "min"):
        x = lucid.tensor(2.0, requires_grad=True)
        y = getattr(x, name)()
        y.backward()
        assert (y.item(), y.shape, x.grad.item()) == (2.0, (), 1.0)


def test_every_operation_is_a_method_of_the_same_meaning() -> None:
    x = lucid.tensor([[0.5, 2.0], [1.5, 0.25]])
    for name in ("exp", "log", "sqrt", "square", "abs", "sign", "neg", "reciprocal", "sigmoid", "relu", "sum", "ravel"):
        assert getattr(x, name)().tolist() == getattr(lucid, name)(x).tolist()
    for name in ("add", "sub", "mul", "multiply", "div", "minimum", "maximum", "matmul", "dot"):
        assert getattr(x, name)(x.T).tolist() == getattr(lucid, name)(x, x.T).tolist()
    assert x.pow(2).tolist() == x.power(2).tolist() == (x**2).tolist()
    assert x.clip(0.5, 1).tolist() == x.clamp(0.5, 1).tolist() == [[0.5, 1.0], [1.0, 0.5]]
    assert x.expand_dims(0).shape == (1, 2, 2)


def test_lucid_names_are_there() -> None:
    names = """
        tensor to_tensor zeros ones empty full eye arange linspace zeros_like ones_like empty_like full_like add
        sub multiply div power minimum maximum exp log sqrt square abs reciprocal clip where masked_fill sigmoid
        relu sum mean var min max argmin argmax matmul dot reshape ravel flatten squeeze unsqueeze expand_dims
        transpose permute swapaxes broadcast_to concatenate cat stack pad split chunk all any no_grad
        grad_enabled save load register_model newaxis Int8 Int16 Int32 Int64 Float16 Float32 Float64 nn optim
        random models graph onnx io manual_seed set_num_threads get_num_threads set_backend
    """
    assert [name for name in names.split() if not hasattr(lucid, name)] == []
    with pytest.raises(AttributeError, match="'teh'"):
        lucid.teh  # noqa: B018
    assert lucid.__version__


# -- operators, as Python and PyTorch have them ------------------------------------------------------------------------

SAMPLES: dict[str, Any] = {
    "bool": np.array([True, False, True]),
    "uint8": np.array([0, 7, 255], np.uint8),
    "int8": np.array([-128, 7, 127], np.int8),
    "int64": np.array([-7, 3, 2**62]),
    "float32": np.array([-7.5, 3.0, 0.25], np.float32),
    "int64 without axes": np.array(5),
    "int8 without axes": np.array(5, np.int8),
    "float64 without axes": np.array(0.5),
    "True": True,
    "3": 3,
    "2.5": 2.5,
}
OPERATORS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "+": lambda m, a, b: a + b,
    "-": lambda m, a, b: a - b,
    "*": lambda m, a, b: a * b,
    "/": lambda m, a, b: a / b,
    "//": lambda m, a, b: a // b,
    "%": lambda m, a, b: a % b,
    "**": lambda m, a, b: a**b,
    "&": lambda m, a, b: a & b,
    "|": lambda m, a, b: a | b,
    "^": lambda m, a, b: a ^ b,
    "<": lambda m, a, b: a < b,
    "==": lambda m, a, b: a == b,
    "maximum": lambda m, a, b: m.maximum(a, b),
    "where": lambda m, a, b: m.where(m.tensor([True, False, True]), a, b),
    "clip": lambda m, a, b: m.clip(a, b, b),
    "cat": lambda m, a, b: m.cat([a, b]),
    "stack": lambda m, a, b: m.stack([a, b]),
}
EXPLAINED = (TypeError, ValueError, RuntimeError, OverflowError, ZeroDivisionError)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operands_of_several_dtypes(backend: str, operator: str) -> None:
    """Value and dtype are PyTorch's, where it has any; lucid may refuse, and refuses float32 beside float64 always."""
    apply = OPERATORS[operator]
    compared = 0
    for (first, a), (second, b) in itertools.product(SAMPLES.items(), repeat=2):
        if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
            continue
        if operator in ("maximum", "cat", "stack") and not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
            continue
        if operator == "clip" and not (isinstance(a, np.ndarray) and not isinstance(b, np.ndarray)):
            continue
        ours, theirs = (
            [t(v) if isinstance(v, np.ndarray) else v for v in (a, b)] for t in (lucid.tensor, torch.tensor)
        )
        try:
            got = apply(lucid, *ours)
            got.numpy()  # from a GPU, some errors come when a value is read
        except EXPLAINED as error:
            got, said = None, str(error)
            assert re.search(r"got .*(mixed silently|may|must|convert|holds)|booleans|divisor 0|shapes", said), said
        try:
            expected = apply(torch, *theirs)
        except (RuntimeError, TypeError, NotImplementedError, OverflowError):
            continue
        dtypes = {str(v.dtype) for v in ours if isinstance(v, lucid.Tensor)}
        if {"float32", "float64"} <= dtypes:
            assert got is None, (first, second)
            continue
        if got is None:
            continue
        where = f"{first} {operator} {second}"
        assert str(expected.dtype) == f"torch.{got.dtype}", where
        if expected.dtype.is_floating_point:  # integers beyond 2^24 are rounded once more in some places
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-6, err_msg=where)
        else:
            np.testing.assert_array_equal(got.numpy(), expected.numpy(), err_msg=where)
        compared += 1
    assert compared > 5


def test_integers_stay_exact(backend: str) -> None:
    big = lucid.tensor([[2**53 + 1, 1], [3, -(2**40)]])
    exact = np.array([[2**53 + 1, 1], [3, -(2**40)]])
    assert (big @ big).numpy().tolist() == (exact @ exact).tolist()
    assert lucid.dot(big[0], big[1]).item() == int(exact[0] @ exact[1])
    assert (lucid.tensor([3, 2]) ** 33).tolist() == [3**33, 2**33]
    assert (lucid.tensor([3, 2]) ** lucid.tensor([39, 64])).tolist() == [3**39, 0]
    assert (3 ** lucid.tensor([0, 38])).tolist() == [1, 3**38]
    assert (lucid.tensor([100], dtype="int8") * 2).tolist() == [-56]
    assert (lucid.tensor([100], dtype="int8") @ lucid.tensor([3], dtype="int8")).item() == 300 - 256


NUMBERS = [-(2**63) - 1, -(2**63), -129, -128, -1, 0, 1, 127, 128, 255, 256, 2**31, 2**63 - 1, 2**63, 2**64, 10**400]
NUMBERS += [-0.5, 0.5, 126.5, 127.5, -128.5, 2.0**63, 1e30, math.inf, -math.inf, math.nan]  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float32", "float64"])
def test_comparisons_are_exact(backend: str, dtype: str) -> None:
    """Python compares any two numbers exactly; so does lucid integers with numbers, and floats with huge integers."""
    made = np.dtype(dtype)
    if made.kind == "f":
        values: Any = [-math.inf, -1.0, 0.0, 1.0, float(np.finfo(made).max), math.inf, math.nan]
        numbers = [n for n in NUMBERS if isinstance(n, int) and (abs(n) <= 256 or abs(n) >= 2**128)] + [
            2**128,
            -(2**2000),
        ]
    else:
        values = (
            [0, 1]
            if dtype == "bool"
            else [np.iinfo(made).min, -1, 0, 1, 126, np.iinfo(made).max][made.kind == "u" and 2 :]
        )
        numbers = NUMBERS
    x = lucid.tensor(np.array(values, made))
    for number in numbers:
        for sign in ("==", "!=", "<", "<=", ">", ">="):
            expected = [eval(f"a {sign} b", {"a": a, "b": number}) for a in x.tolist()]
            assert eval(f"a {sign} b", {"a": x, "b": number}).tolist() == expected, f"{dtype} {sign} {number}"
            expected = [eval(f"b {sign} a", {"a": a, "b": number}) for a in x.tolist()]
            assert eval(f"b {sign} a", {"a": x, "b": number}).tolist() == expected, f"{number} {sign} {dtype}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_floor_and_remainder_are_pythons(backend: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.integers(-9, 10, 200) * 0.5, [7.0, -7.0, 1e-40, -1e-40, 1e30, 0.0]])
    b = np.concatenate([rng.choice([-3.0, -2.0, -0.5, 0.25, 2.0, 3.0], 200), [2.0, 2.0, 3.0, 3.0, 0.7, -2.0]])
    if dtype == np.int64:
        a, b = np.trunc(a * 4).clip(-100, 100), np.where(np.trunc(b) == 0, 2, np.trunc(b))
    a, b = a.astype(dtype), b.astype(dtype)
    whole, rest = lucid.tensor(a) // lucid.tensor(b), lucid.tensor(a) % lucid.tensor(b)
    np.testing.assert_array_equal(whole.numpy(), np.floor_divide(a, b))
    np.testing.assert_array_equal(rest.numpy(), np.remainder(a, b))
    assert np.signbit(rest.numpy()).tolist() == np.signbit(np.remainder(a, b)).tolist()
    assert (7 // lucid.tensor([2, -2]), 7.0 % lucid.tensor([2.0, -2.0])) is not None
    assert (7 // lucid.tensor([2, -2])).tolist() == [3, -4]
    assert (7.0 % lucid.tensor([2.0, -2.0])).tolist() == [1.0, -1.0]
    assert (lucid.tensor([1.0, -1.0, 0.0]) // 0.0).tolist()[:2] == [math.inf, -math.inf]


def test_membership() -> None:
    x = lucid.tensor([[1, 2], [3, 4]])
    assert (2 in x, 2.5 in x, lucid.tensor(4) in x, 9 in x, 2**70 in x) == (True, False, True, False, False)
    for other in ("a", None, [1]):
        with pytest.raises(TypeError, match="in: got"):
            assert other in x


UPDATES = {
    "+=": lambda x, y: x.__iadd__(y),
    "-=": lambda x, y: x.__isub__(y),
    "*=": lambda x, y: x.__imul__(y),
    "//=": lambda x, y: x.__ifloordiv__(y),
    "%=": lambda x, y: x.__imod__(y),
    "**=": lambda x, y: x.__ipow__(y),
    "&=": lambda x, y: x.__iand__(y),
    "|=": lambda x, y: x.__ior__(y),
    "^=": lambda x, y: x.__ixor__(y),
}


@pytest.mark.parametrize("sign", UPDATES)
def test_updates_write_into_the_tensor_and_its_views(backend: str, sign: str) -> None:
    array = np.array([[5, 6], [7, 8]])
    x = lucid.tensor(array)
    row, before = x[0], x._stamp()
    assert UPDATES[sign](row, lucid.tensor([2, 3], dtype="int32")) is row
    expected = array.copy()
    expected[0] = UPDATES[sign](expected[0], np.array([2, 3]))
    assert x.tolist() == expected.tolist()
    assert x._stamp() != before


def test_updates_that_do_not_fit() -> None:
    x = lucid.tensor([1, 2])
    for update, error, message in [
        (lambda: x.__iadd__(1.5), TypeError, r"\+=: the result is float32, which the int64 tensor cannot hold"),
        (lambda: x.__itruediv__(2), TypeError, r"/=: the result is float32"),
        (lambda: lucid.tensor([True]).__iadd__(1), TypeError, r"\+=: the result is int64, which the bool tensor"),
        (lambda: x.__iadd__(lucid.ones(3, 2, dtype=I64)), ValueError, r"\+=: the result has shape \(3, 2\)"),
        (lambda: lucid.ones(1).broadcast_to((2,)).__iadd__(1), RuntimeError, "share memory"),
        (lambda: lucid.ones(2).__iand__(1), TypeError, "may be integers or booleans"),
        (lambda: x.__setitem__(0, None), TypeError, "setitem: got None"),
        (lambda: x // 0, ZeroDivisionError, "integer divisor 0 at position 0"),
        (lambda: x**-1, ValueError, "got -1 for integers"),
        (lambda: x ** lucid.tensor([1, -1]), ValueError, "exponent -1 at position 1"),
        (lambda: lucid.tensor([1], dtype="int8") + 300, OverflowError, "holds -128 to 127"),
        (lambda: lucid.tensor([True]) @ lucid.tensor([True]), TypeError, "booleans"),
        (lambda: -lucid.tensor([True]), TypeError, "booleans"),
        (lambda: lucid.clip(lucid.tensor([1], dtype="int8"), 300), OverflowError, "holds -128 to 127"),
    ]:
        with pytest.raises(error, match=message):
            update()
    assert x.tolist() == [1, 2]


def test_training_by_hand() -> None:
    p = lucid.nn.Parameter([1.0, 2.0])
    (p * p).sum().backward()
    with lucid.no_grad():
        for q in [p]:
            q -= 0.25 * q.grad
    assert p.tolist() == [0.5, 1.0]
    assert (p.is_leaf, p.requires_grad) == (True, True)


def test_clip_takes_integers_between_floats() -> None:
    x = lucid.tensor([0, 1, 5])
    assert (lucid.clip(x, 0.5, 2.5).tolist(), lucid.clip(x, 0.5).dtype) == ([0.5, 1.0, 2.5], F32)
    assert lucid.clip(lucid.tensor([-128, 127], dtype="int8"), -1000, 1000).tolist() == [-128, 127]


def test_squeezing_nothing() -> None:
    assert lucid.ones(1, 2).squeeze(()).shape == (1, 2)
    assert lucid.ones(1, 2, 1).squeeze((0, 2)).shape == (2,)


# -- DLPack -----------------------------------------------------------------------------------------------------------

EXPORTED: dict[str, Callable[[], lucid.Tensor]] = {
    "as it is": lambda: lucid.arange(6.0).reshape(2, 3),
    "transposed": lambda: lucid.arange(6.0).reshape(2, 3).T,
    "gaps": lambda: lucid.arange(6.0)[::2],
    "backwards": lambda: lucid.arange(4.0)[::-1],
    "one axis backwards": lambda: lucid.arange(6.0).reshape(2, 3)[:, ::-1],
    "broadcast": lambda: lucid.ones(1).broadcast_to((2, 3)),
    "no elements": lambda: lucid.zeros(0, 3),
    "no elements backwards": lambda: lucid.zeros(0, 3)[::-1, ::-1],
    "one element backwards": lambda: lucid.zeros(1)[::-1],
    "no axes": lambda: lucid.tensor(1.5),
    "read-only": lambda: lucid.to_tensor(np.broadcast_to(np.float32(1), (2,))),
    "booleans": lambda: lucid.tensor([True, False]),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_dlpack_exports_what_others_can_take(name: str) -> None:
    x = EXPORTED[name]()
    for taken in (torch.from_dlpack(x), np.from_dlpack(x), lucid.from_dlpack(x)):
        assert taken.tolist() == x.tolist()
    copied = any(word in name for word in ("backwards", "broadcast", "read-only")) and name != "one element backwards"
    if name in ("as it is", "transposed", "gaps"):
        assert not copied
        assert np.shares_memory(np.from_dlpack(x), x.data)


def test_dlpack_arguments() -> None:
    x = lucid.arange(4.0)
    with pytest.raises(
        BufferError, match="copy: got False, but the tensor has to be copied: its memory runs backwards"
    ):
        x[::-1].__dlpack__(copy=False)
    with pytest.raises(BufferError, match="read-only"):
        lucid.to_tensor(np.frombuffer(b"1234", np.uint8)).__dlpack__(copy=False)
    with pytest.raises(BufferError, match=r"dl_device: got \(2, 0\); may be \(1, 0\)"):
        x.__dlpack__(dl_device=(2, 0))
    before = x._stamp()
    x.__dlpack__(copy=True)
    assert x._stamp() == before
    x.__dlpack__(dl_device=(1, 0), max_version=(1, 0), stream=None, copy=False)
    assert x._stamp() is None


# -- what is assigned -------------------------------------------------------------------------------------------------


def test_data_takes_tensors_and_arrays_alone() -> None:
    p = lucid.nn.Parameter([1.0])
    source = lucid.tensor([2.0, 3.0])
    p.data = source
    assert (p * 2).tolist() == [4.0, 6.0]
    y = (p * p).sum()
    source.fill_(0.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    p.data = np.array([4.0])
    assert (p.dtype, p.tolist()) == (F64, [4.0])
    for bad, message in [([1.0], "data: got list"), ("abc", "data: got str"), (None, "data: got NoneType")]:
        with pytest.raises(TypeError, match=message):
            p.data = bad
    with pytest.raises(TypeError, match="data: got int64 for a tensor that requires a gradient"):
        p.data = lucid.tensor([1])
    assert p.tolist() == [4.0]


def test_grad_takes_its_like_alone() -> None:
    x = lucid.ones(2, requires_grad=True)
    for bad, error in [
        ("junk", TypeError),
        (np.ones(2), TypeError),
        (lucid.ones(3), ValueError),
        (lucid.ones(2).double(), ValueError),
    ]:
        with pytest.raises(error, match="grad: got"):
            x.grad = bad
    x.grad = lucid.zeros(2)
    x.grad = None


@pytest.mark.parametrize("make", [lucid.tensor, lucid.Tensor, lucid.to_tensor, lucid.nn.Parameter, lucid.nn.Buffer])
@pytest.mark.parametrize("data", [None, "abc", [1.0, None], {}, [1j], [[1.0], "a"], 10**30])
def test_what_no_tensor_is_made_of(make: Any, data: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="data: got"):
        make(data)


# -- methods ----------------------------------------------------------------------------------------------------------


def declared_methods() -> dict[str, inspect.Signature]:
    """The operations that ``Tensor`` declares for type checkers, and how it says that they are called."""
    source = Path(tensor_module.__file__ or "").read_text()
    [block] = [
        node
        for part in ast.walk(ast.parse(source))
        if isinstance(part, ast.ClassDef) and part.name == "Tensor"
        for node in part.body
        if isinstance(node, ast.If)
    ]
    space: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + ast.unparse(ast.Module(block.body, [])), space)
    return {name: inspect.signature(value) for name, value in space.items() if inspect.isfunction(value)}


def test_every_declared_method_is_attached_and_called_as_declared() -> None:
    declared = declared_methods()
    written = set(re.findall(r"^    def (\w+)", inspect.getsource(lucid.Tensor), re.MULTILINE))
    attached = {name for name, value in vars(lucid.Tensor).items() if inspect.isfunction(value)} - written
    assert attached == set(declared)
    for name, signature in declared.items():
        method = getattr(lucid.Tensor, name)
        takes = list(inspect.signature(method).parameters.values())[1:]
        wanted = list(signature.parameters.values())[1:]
        assert [(p.kind, p.default) for p in takes] == [(p.kind, p.default) for p in wanted], name
        if not name.startswith("__"):
            assert method.__doc__, name
            assert [p.name for p in takes if p.kind is not p.VAR_POSITIONAL] == [
                p.name for p in wanted if p.kind is not p.VAR_POSITIONAL
            ], name


def scaled(gradient: lucid.Tensor) -> lucid.Tensor:
    return gradient * 10


def test_a_pickled_leaf_keeps_its_hooks_and_a_result_its_history() -> None:
    x = lucid.ones(2, requires_grad=True)
    x.register_hook(scaled)
    y = x + x + x
    other, result = pickle.loads(pickle.dumps((x, y)))
    result.sum().backward()
    assert (other.grad.tolist(), x.grad) == ([30.0, 30.0], None)
