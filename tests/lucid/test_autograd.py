"""Differentiation: the graph, the walk, its memory, hooks, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lucid
import lucid.nn.functional as F
from lucid.ops._function import Function, apply

torch.set_num_threads(1)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(array: Any) -> lucid.Tensor:
    return lucid.tensor(array, requires_grad=True)


# -- against PyTorch: the same expression in both -------------------------------------------------------------------

EXPRESSIONS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "chain": (lambda m, x: ((x * 2 + 1) * x - 3) / (x * x + 2), ((3, 4),)),
    "shared": (lambda m, x: (lambda y: y * y + y * x + y)(x * x), ((5,),)),
    "operand twice": (lambda m, x: x * x, ((5,),)),
    "operand twice, not commutative": (lambda m, x: x - x * 3 / x, ((5,),)),
    "diamond": (lambda m, x, y: (x + y) * (x - y) + (x + y), ((2, 3), (2, 3))),
    "broadcast row": (lambda m, x, y: x * y, ((4, 3), (3,))),
    "broadcast column": (lambda m, x, y: x / (y * y + 1), ((4, 3), (4, 1))),
    "broadcast both": (lambda m, x, y: x - y, ((4, 1), (1, 3))),
    "broadcast new axes": (lambda m, x, y: x * y, ((2, 3, 4), (4,))),
    "broadcast new and long axes": (lambda m, x, y: x * y, ((2, 3, 4), (3, 1))),
    "broadcast one element": (lambda m, x, y: x + y, ((2, 3), (1, 1, 1))),
    "broadcast no axes": (lambda m, x, y: x * y, ((2, 3), ())),
    "number left": (lambda m, x: 2 - x + 3 / (x * x + 1) + 2 * x, ((4,),)),
    "negation and absolute": (lambda m, x: -abs(x), ((4,),)),
    "sum over one axis": (lambda m, x: x.sum(1) * 2, ((3, 4),)),
    "mean of parts": (lambda m, x: x.mean(0) * x.mean(1)[:3].sum(), ((4, 3),)),
    "reshape": (lambda m, x: x.reshape(2, 6) * x.reshape(6, 2).T, ((3, 4),)),
    "transpose": (lambda m, x: x.permute(2, 0, 1) * 2, ((2, 3, 4),)),
    "views of one tensor": (lambda m, x: x[0] * x[1] + x[:, 0].sum(), ((2, 3),)),
    "slices": (lambda m, x: x[1:, ::2] * x[:-1, 1::2], ((3, 4),)),
    "ellipsis and new axis": (lambda m, x: x[..., None, 0] * x[0], ((3, 4),)),
    "integer array, repeated": (lambda m, x: x[[0, 1, 0, 0]] * 2, ((3, 2),)),
    "boolean array": (lambda m, x: x[x > 0] * 3, ((4, 4),)),
    "negative index": (lambda m, x: x[-1, -2], ((3, 4),)),
    "matrix product": (lambda m, x, y: x @ y, ((3, 4), (4, 2))),
    "matrix and vector": (lambda m, x, y: x @ y, ((3, 4), (4,))),
    "vector and matrix": (lambda m, x, y: x @ y, ((4,), (4, 2))),
    "vectors": (lambda m, x, y: x @ y, ((4,), (4,))),
    "batched product, broadcast": (lambda m, x, y: x @ y, ((2, 1, 3, 4), (5, 4, 2))),
    "batched and vector": (lambda m, x, y: x @ y, ((2, 3, 4), (4,))),
    "matrix with its transpose": (lambda m, x: x @ x.T, ((3, 4),)),
    "squeeze and unsqueeze": (lambda m, x: x.unsqueeze(1).squeeze(-1) * 2, ((3, 1),)),
    "swapaxes": (lambda m, x: x.swapaxes(0, 1) * 2, ((3, 4),)),
    "concatenation with itself": (lambda m, x, y: m.concatenate([x, y, x * 2], 1), ((2, 3), (2, 1))),
    "stack": (lambda m, x, y: m.stack([x, y, x], 1) * 2, ((2, 3), (2, 3))),
    "split": (lambda m, x: m.split(x, 2)[0] * m.split(x, 2)[1], ((4, 3),)),
    "where": (lambda m, x, y: m.where(x > y, x * 2, y * y), ((3, 4), (4,))),
    "masked fill": (lambda m, x: x.masked_fill(x > 0, 2.0) * x, ((3, 4),)),
    "broadcast_to": (lambda m, x: m.broadcast_to(x, (3, 4)) * 2, ((3, 1),)),
    "largest with ties": (lambda m, x: m.amax((x * 0 + 1) * 2, 1) * 3, ((3, 4),)),
    "clip": (lambda m, x: x.clamp(-0.5, 0.5) * x, ((10,),)),
    "exponential and logarithm": (lambda m, x: m.log(m.exp(x) + 1), ((6,),)),
    "cube": (lambda m, x: x**3 + x**2, ((6,),)),
    "square root": (lambda m, x: m.sqrt(x * x + 1), ((6,),)),
    "reciprocal": (lambda m, x: m.reciprocal(x * x + 1), ((6,),)),
    "unused part": (lambda m, x, y: (x * y, x + 1)[1], ((3,), (3,))),
    "detached factor": (lambda m, x: x * x.detach(), ((3,),)),
    "variance": (lambda m, x: x.var(1) * 2, ((3, 4),)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_gradients_are_pytorchs(backend: str, name: str) -> None:
    expression, shapes = EXPRESSIONS[name]
    arrays = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    ours, theirs = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = expression(lucid, *ours), expression(torch, *theirs)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    weights = draw(*y.shape, seed=9)
    y.backward(lucid.tensor(weights))
    expected.backward(torch.tensor(weights))
    for own, other in zip(ours, theirs, strict=True):
        if other.grad is None:
            assert own.grad is None
        else:
            np.testing.assert_allclose(own.grad.numpy(), other.grad.numpy(), rtol=1e-11, atol=1e-12)


def random_program(module: Any, leaves: list[Any], seed: int) -> Any:
    """Sixty operations on values drawn from all earlier ones, so that most have several users."""
    rng = np.random.default_rng(seed)
    values = list(leaves)
    for _ in range(60):
        a, b = (values[i] for i in rng.integers(len(values), size=2))
        kind = rng.integers(7)
        new = [
            lambda a=a, b=b: a + b,
            lambda a=a, b=b: a * b * 0.3,
            lambda a=a, b=b: a - b,
            lambda a=a, b=b: a / (b * b + 2),
            lambda a=a: module.where(a > 0, a, a * 0.1),
            lambda a=a: a[[2, 0, 0, 1]] * 0.5,
            lambda a=a: a.T.reshape(4, 4) * 0.5 + a.sum(0) * 0.1,
        ][kind]()
        values.append(new)
    return sum(v.sum() for v in values[-8:])


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    arrays = [draw(4, 4, seed=10 * seed + i) for i in range(3)]
    ours, theirs = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    random_program(lucid, ours, seed).backward()
    random_program(torch, theirs, seed).backward()
    for own, other in zip(ours, theirs, strict=True):
        if other.grad is None:
            assert own.grad is None
        else:
            np.testing.assert_allclose(own.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-9)


def test_gradients_meet_in_descending_order_of_creation(backend: str) -> None:
    # 2^60 (created last) first, then -2^60, then 1: 1. In the other order the 1 would be lost.
    x = leaf(np.float64(1.0))
    small, minus, plus = x * 1.0, x * -(2.0**60), x * 2.0**60
    (small + minus + plus).backward()
    assert x.grad.item() == 1.0


def _by_parts(x: Any, w: Any, centre: bool) -> Any:
    """Sections 7.1 and 7.2, an operation at a time."""
    centred = x - x.mean(-1, keepdims=True) if centre else x
    return centred / lucid.sqrt(lucid.mean(lucid.square(centred), -1, keepdims=True) + 1e-5) * w


@pytest.mark.parametrize("centre", [True, False])
def test_a_fused_normalisation_meets_other_gradients_as_its_parts_do(backend: str, centre: bool) -> None:
    fused = F.layer_norm if centre else F.rms_norm
    arrays = [draw(37, 48, seed=i).astype(np.float32) for i in range(2)]
    arrays.append(draw(48, seed=2).astype(np.float32))
    found = []
    for how in (lambda x, w: fused(x, 48, w, eps=1e-5), lambda x, w: _by_parts(x, w, centre)):
        x, w = leaf(arrays[0]), leaf(arrays[2])
        early = lucid.exp(x)
        y = how(x, w)
        (x * lucid.tensor(arrays[1]) + y * early).sum().backward()
        found.append((y.numpy().tobytes(), x.grad.numpy().tobytes(), w.grad.numpy().tobytes()))
    assert found[0] == found[1]


# -- accumulation ---------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_passes(backend: str) -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.zero_grad()
    assert x.grad is None


def test_a_leaf_is_its_own_result() -> None:
    x = leaf([1.0, 2.0])
    x.backward(lucid.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]


def test_gradients_do_not_share_memory() -> None:
    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    given = lucid.tensor([1.0, 1.0])
    z = x + y
    z.keep_grad = True
    z.backward(given)
    arrays = [given.data, x.grad.data, y.grad.data, z.grad.data]
    for i, a in enumerate(arrays):
        assert not any(np.may_share_memory(a, b) for b in arrays[i + 1 :])


def test_broadcast_gradient_can_be_written() -> None:
    x = leaf([1.0, 2.0])
    x.sum().backward()
    x.grad.data[0] = 5.0
    assert x.grad.tolist() == [5.0, 1.0]


def test_gradient_has_the_dtype_and_shape_of_its_tensor(backend: str) -> None:
    for dtype in (lucid.float32, lucid.float64):
        x = lucid.ones(2, 1, dtype=dtype, requires_grad=True)
        y = lucid.ones(3, dtype=dtype)
        (x * y).sum().backward()
        assert x.grad.dtype == dtype
        assert x.grad.shape == (2, 1)


def test_only_leaves_that_ask_are_given_gradients() -> None:
    x, y = leaf([1.0]), lucid.tensor([2.0])
    (x * y).backward()
    assert y.grad is None
    assert x.grad.item() == 2.0


def test_gradients_through_conversion() -> None:
    x = lucid.tensor([1.0, 2.0], requires_grad=True)
    y = x.astype(lucid.float64) * 2
    y.sum().backward()
    assert x.grad.dtype == lucid.float32
    assert not x.astype(lucid.int64).requires_grad


def test_inner_results_keep_gradients_only_when_asked() -> None:
    x = leaf([1.0, 2.0])
    a = x * 2
    b = a * a
    b.keep_grad = True
    c = lucid.sum(b)
    c.retain_grad()
    c.backward()
    assert a.grad is None
    assert b.grad.tolist() == [1.0, 1.0]
    assert c.grad.item() == 1.0
    assert x.grad.tolist() == [8.0, 16.0]


def test_retain_grad_needs_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="does not require"):
        lucid.ones(2).retain_grad()


# -- recording or not -------------------------------------------------------------------------------------------------


def test_no_grad_records_nothing() -> None:
    x = leaf([1.0])
    with lucid.no_grad():
        y = x * 2
        with lucid.enable_grad():
            z = x * 2
        assert not lucid.grad_enabled()
    assert (y.requires_grad, z.requires_grad) == (False, True)
    assert y.is_leaf
    assert lucid.grad_enabled()


def test_no_grad_decorates_and_survives_exceptions() -> None:
    @lucid.no_grad()
    def twice(x: lucid.Tensor) -> lucid.Tensor:
        """Doubles."""
        if x.size > 1:
            raise KeyError
        return x * 2

    assert not twice(leaf([1.0])).requires_grad
    with pytest.raises(KeyError):
        twice(leaf([1.0, 2.0]))
    assert lucid.grad_enabled()
    assert twice.__doc__ == "Doubles."


def test_set_grad_enabled_holds_at_once_and_until_the_end() -> None:
    lucid.set_grad_enabled(False)
    assert not lucid.grad_enabled()
    with lucid.set_grad_enabled(True):
        assert lucid.grad_enabled()
    assert not lucid.grad_enabled()
    lucid.set_grad_enabled(True)


def test_a_decorator_holds_inside_the_function_alone() -> None:
    modes = []

    @lucid.set_grad_enabled(False)
    def off() -> bool:
        return lucid.grad_enabled()

    modes.append(lucid.grad_enabled())
    with lucid.no_grad():

        @lucid.set_grad_enabled(True)
        def on() -> bool:
            return lucid.grad_enabled()

        modes.append(lucid.grad_enabled())
        modes.append(on())
    assert [*modes, off(), lucid.grad_enabled()] == [True, False, True, False, True]


@pytest.mark.parametrize("made", ["no_grad", "no_grad()", "set_grad_enabled(False)"])
def test_decorators_of_every_kind_of_function(made: str) -> None:
    def decorate(function: Any) -> Any:
        given = lucid.set_grad_enabled(False) if made.startswith("set") else lucid.no_grad
        return (given() if made == "no_grad()" else given)(function)  # type: ignore[operator]

    log: list[bool] = []

    def look() -> bool:
        log.append(lucid.grad_enabled())
        return log[-1]

    @decorate
    def plain(x: int, *, y: int = 1) -> tuple[int, int]:
        """Words."""
        look()
        return x, y

    @decorate
    def generator() -> Any:
        try:
            got = yield look()
            try:
                yield (got, look())
            except KeyError:
                yield look()
        finally:
            look()
        return "end"

    @decorate
    async def coroutine() -> bool:
        await asyncio.sleep(0)
        return look()

    @decorate
    async def asynchronous() -> Any:
        for i in range(2):
            await asyncio.sleep(0)
            yield i, look()

    async def both() -> Any:
        other = asyncio.ensure_future(asyncio.sleep(0))
        result = await coroutine(), [pair async for pair in asynchronous()], lucid.grad_enabled()
        await other
        return result

    assert plain(3, y=4) == (3, 4)
    assert plain.__doc__ == "Words."
    run = generator()
    assert (next(run), lucid.grad_enabled(), run.send("sent")) == (False, True, ("sent", False))
    assert run.throw(KeyError("thrown")) is False
    with pytest.raises(StopIteration, match="end"):
        next(run)
    closed = generator()
    next(closed)
    closed.close()
    assert asyncio.run(both()) == (False, [(0, False), (1, False)], True)
    assert not any(log)
    assert lucid.grad_enabled()


@pytest.mark.parametrize("decorate", [lucid.no_grad, lucid.no_grad(), lucid.enable_grad, lucid.enable_grad()])
def test_classes_are_not_decorated(decorate: Any) -> None:
    with pytest.raises(TypeError, match="got the class Network to decorate; may be a function"):

        @decorate
        class Network:
            pass


def test_the_mode_is_true_or_false() -> None:
    with pytest.raises(TypeError, match=r"mode: got .*; may be True or False"):
        lucid.set_grad_enabled(test_the_mode_is_true_or_false)  # type: ignore[arg-type]
    assert lucid.grad_enabled()


def test_the_mode_is_the_threads_own() -> None:
    seen = []
    with lucid.no_grad():
        thread = threading.Thread(target=lambda: seen.append(lucid.grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_differentiate_at_the_same_time() -> None:
    results: dict[int, float] = {}

    def work(n: int) -> None:
        x = leaf(np.full(50, float(n)))
        for _ in range(20):
            (x * x).sum().backward()
        results[n] = x.grad.numpy()[0]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: 40.0 * n for n in range(4)}


def test_detach_shares_memory_and_forgets() -> None:
    x = leaf([1.0, 2.0])
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.is_leaf
    assert np.shares_memory(x.detach().data, x.data)


# -- the walk's memory, and its refusals -----------------------------------------------------------------------------


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf([1.0])
    y = x
    for _ in range(50_000):
        y = y + 1
    y.backward()
    assert x.grad.item() == 1.0


def test_a_long_chain_can_be_dropped() -> None:
    y = leaf([1.0])
    for _ in range(50_000):
        y = y + 1
    del y
    gc.collect()


class Watched(Function):
    """Multiplies by one, and tells how many of its kind are alive when each runs backward."""

    name = "watched"
    alive: list[int]
    saved_arrays: weakref.WeakSet[Any]

    def __init__(self, log: list[int], arrays: list[weakref.ref[Any]]) -> None:
        self.log = log
        self.arrays = arrays

    def forward(self, be: Any, x: Any) -> Any:
        kept = x.copy()
        self.arrays.append(weakref.ref(kept))
        self.saved = (kept,)
        return x.copy()

    def backward(self, be: Any, dy: Any) -> Any:
        self.log.append(sum(ref() is not None for ref in self.arrays))
        return (dy.copy(),)


def test_memory_is_released_as_the_walk_passes() -> None:
    log: list[int] = []
    arrays: list[weakref.ref[Any]] = []
    x = leaf(np.ones(10))
    y = x
    for _ in range(6):
        y = apply(Watched(log, arrays), y)
    gc.disable()
    try:
        y.sum().backward()
        assert log == [6, 5, 4, 3, 2, 1]
        assert sum(ref() is not None for ref in arrays) == 0
    finally:
        gc.enable()


def test_only_gradients_that_wait_are_alive() -> None:
    class Passing(Function):
        name = "passing"

        def forward(self, be: Any, x: Any) -> Any:
            return x.copy()

        def backward(self, be: Any, dy: Any) -> Any:
            alive.append(sum(ref() is not None for ref in made))
            made.append(weakref.ref(out := dy.copy()))
            return (out,)

    alive: list[int] = []
    made: list[weakref.ref[Any]] = []
    y = leaf(np.ones(10))
    for _ in range(5):
        y = apply(Passing(), y)
    y.sum().backward()
    assert alive == [0, 1, 1, 1, 1]
    alive.clear(), made.clear()
    y = apply(Passing(), leaf(np.ones(10)))
    (apply(Passing(), y) + apply(Passing(), y)).sum().backward()
    assert alive == [0, 1, 0]  # the third has the sum of the other two


def test_retained_graphs_keep_what_they_saved() -> None:
    log: list[int] = []
    arrays: list[weakref.ref[Any]] = []
    x = leaf(np.ones(10))
    y = apply(Watched(log, arrays), apply(Watched(log, arrays), x)).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert log == [2, 2, 2, 1]
    assert x.grad.tolist() == [2.0] * 10


def test_nothing_needs_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(draw(4, 3, 8, 8))
        weight = leaf(draw(5, 3, 3, 3))
        y = F.relu(F.conv2d(x, weight))
        y = F.max_pool2d(F.batch_norm(y, None, None, training=True), 2)
        loss = (y * y).mean()
        inner = weakref.ref(y)
        nodes = weakref.ref(loss._node)
        del y
        loss.backward()
        del loss
        assert inner() is None
        assert nodes() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_results_without_gradients_keep_no_inputs() -> None:
    x = lucid.ones(3)
    alive = weakref.ref(x)
    y = lucid.exp(x * 2)
    del x
    assert alive() is None
    assert y._node is None


def test_a_second_pass_through_a_freed_graph_says_so() -> None:
    x = leaf([1.0])
    y = x * x
    z = y * 2
    z.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        (y + 1).backward()
    assert x.grad.item() == 4.0


def test_a_failing_pass_changes_no_gradient() -> None:
    class Broken(Function):
        name = "broken"

        def forward(self, be: Any, x: Any) -> Any:
            return x.copy()

        def backward(self, be: Any, dy: Any) -> Any:
            raise ZeroDivisionError

    x, y = leaf([1.0]), leaf([1.0])
    z = apply(Broken(), x) + y * 2
    with pytest.raises(ZeroDivisionError):
        z.backward()
    assert x.grad is None
    assert y.grad is None
    assert lucid.grad_enabled()


@pytest.mark.parametrize("breaks", ["hook of a leaf", "gradient on another shape", "hook of a result"])
def test_a_failing_pass_gives_no_gradient_to_anybody(breaks: str) -> None:
    x, y = leaf([1.0]), leaf([1.0])
    inner = y * 2
    inner.keep_grad = True
    z = x * 3 + inner
    if breaks == "hook of a leaf":
        handle = y.register_hook(lambda g: 1 / 0)
    elif breaks == "hook of a result":
        handle = (early := x * 3).register_hook(lambda g: 1 / 0)
        z = early + inner
    else:
        y.data = lucid.ones(4, 5)
        y.grad = lucid.ones(4, 5)
        y.data = lucid.ones(1)  # what was there before fits no more
    with pytest.raises((ZeroDivisionError, ValueError)):
        z.backward(retain_graph=True)
    assert (x.grad, inner.grad) == (None, None)
    if breaks != "gradient on another shape":
        handle.remove()
        assert y.grad is None
        z.backward()
        assert (x.grad.tolist(), y.grad.tolist(), inner.grad.tolist()) == ([3.0], [2.0], [1.0])


def test_changing_a_saved_tensor_is_noticed() -> None:
    x, w = leaf([1.0, 2.0]), lucid.tensor([3.0, 4.0])
    y = (x * w).sum()
    w[0] = 9.0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_changing_a_saved_result_is_noticed() -> None:
    x = leaf([1.0, 2.0])
    y = lucid.exp(x)
    with lucid.no_grad():
        y.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_changing_a_view_changes_its_source() -> None:
    x, w = leaf([1.0, 2.0]), lucid.tensor([3.0, 4.0])
    for view in (w.reshape(2, 1), w[:1], w.detach(), w.unsqueeze(0).T):
        y = (x * w).sum()
        view.fill_(0.0)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_the_gradient_of_an_updated_result_goes_on(backend: str) -> None:
    """``out += x`` in a forward pass, as PyTorch has it."""
    for module in (lucid, torch):
        x, w = module.tensor([1.0, 2.0]).requires_grad_(), module.tensor([3.0, 4.0]).requires_grad_()
        y = x * w
        z = y
        y += x
        y *= 2.0
        y -= w
        y /= 4.0
        total = module.zeros(2)
        total += y
        total.sum().backward()
        got = [x.grad.tolist(), w.grad.tolist(), z.tolist(), total.tolist()]
        if module is lucid:
            ours, same = got, z is y
    assert ours == got
    assert same


def test_updating_what_was_saved_is_noticed() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    z = lucid.exp(y) * y
    y += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        z.sum().backward()


def test_updates_where_a_gradient_would_be_lost() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(
        RuntimeError, match=r"\+=: a leaf that requires a gradient .* write x = x \+ ..., or do it under"
    ):
        x += 1
    y = x * 2
    row = y[0]
    for part in (row, y):
        with pytest.raises(RuntimeError, match=r"\*=: a tensor that shares memory with a view .* write x = x \* ..."):
            part *= 2
    assert y.tolist() == [2.0, 4.0]
    with lucid.no_grad():
        row *= 2
    assert y.tolist() == [4.0, 4.0]


def test_keeping_the_gradient_of_an_updated_result() -> None:
    x = leaf([1.0])
    y = x * 2
    y.retain_grad()
    y += 1
    (y * 3).sum().backward()
    assert (y.grad.tolist(), x.grad.tolist()) == ([3.0], [6.0])


def test_changing_what_was_not_saved_is_allowed() -> None:
    x, w = leaf([1.0, 2.0]), lucid.tensor([3.0, 4.0])
    y = (x + w).sum()
    w[0] = 9.0
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_optimizers_count_as_changes() -> None:
    p = lucid.nn.Parameter([1.0, 2.0])
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    lucid.optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("kept", ["array", "tuple", "dict", "view", "result", "tensor"])
def test_an_operation_cannot_forget_to_guard(kept: str) -> None:
    """Whatever way an operation keeps an operand, a change is noticed, and memory from outside is copied."""

    class Careless(Function):
        name = "careless"

        def forward(self, be: Any, x: Any, w: Any) -> Any:
            y = x * w
            flat = w.reshape(-1)
            ways = {"array": w, "tuple": ((1, (w,)), None), "dict": {"w": [w]}, "view": flat[1:], "result": y}
            self.anything = ways.get(kept, lucid.to_tensor(w))
            self.saved = (w.copy(),)
            return y

        def backward(self, be: Any, dy: Any) -> Any:
            held: Any = self.anything
            while not isinstance(held, np.ndarray | lucid.Tensor):
                parts = held.values() if isinstance(held, dict) else held
                held = next(part for part in parts if not isinstance(part, int) and part is not None)
            seen.append(np.asarray(held).tolist())
            return dy * self.saved[0], None

    seen: list[Any] = []
    x, w = leaf([1.0, 2.0]), lucid.tensor([3.0, 4.0])
    y = apply(Careless(), x, w)
    with lucid.no_grad():
        (y if kept == "result" else w).fill_(0.0)
    with pytest.raises(RuntimeError, match="backward pass of careless needs was changed in place"):
        y.sum().backward()
    if kept != "result":
        buffer = np.array([3.0, 4.0], np.float32)
        y = apply(Careless(), x, lucid.to_tensor(buffer))
        buffer[:] = 0.0
        y.sum().backward()
        assert seen[-1] == ([4.0] if kept == "view" else [3.0, 4.0])


def index_cases() -> dict[str, Callable[[lucid.Tensor], tuple[Any, Callable[[], None]]]]:
    """A result that depends on an index, and how the index changes afterwards."""

    def by(index: Any, change: Callable[[Any], None], use: Callable[..., Any] = lambda x, i: x[i]) -> Any:
        return lambda x: (use(x, index), lambda: change(index))

    fill: Callable[[Any], None] = lambda i: i.fill_(0)  # noqa: E731
    buffer = np.array([2, 1])
    return {
        "tensor": by(lucid.tensor([2, 1]), fill),
        "tensor of one": by(lucid.tensor(2), fill),
        "seen tensor": by(lucid.tensor([2, 1]), lambda i: i.numpy().fill(0)),
        "end of a slice": by(lucid.tensor(1), fill, lambda x, i: x[i:]),
        "array": by(np.array([2, 1]), lambda i: i.fill(0)),
        "list": by([2, 1], lambda i: i.__setitem__(0, 0)),
        "list in a tuple": by([2, 1], lambda i: i.__setitem__(0, 0), lambda x, i: x[i, None]),
        "list of tensors": by([lucid.tensor(2), lucid.tensor(1)], lambda i: i[0].fill_(0)),
        "loader's buffer": by(lucid.to_tensor(buffer), lambda i: buffer.fill(0)),
        "another library's": by(torch.tensor([2, 1]), lambda i: i.fill_(0)),
        "mask": by(lucid.tensor([True, False, True]), fill),
        "mask array": by(np.array([True, False, True]), lambda i: i.fill(False)),
        "condition": by(lucid.tensor([True, False, True]), fill, lambda x, c: lucid.where(c, x, 0.0)),
        "condition array": by(
            np.array([True, False, True]), lambda c: c.fill(False), lambda x, c: lucid.where(c, x, 0)
        ),
        "filled mask": by(lucid.tensor([True, False, True]), fill, lambda x, c: x.masked_fill(c, 0.0)),
        "classes": by(lucid.tensor([2]), fill, lambda x, t: F.cross_entropy(x.reshape(1, 3), t)),
        "small classes": by(lucid.tensor([2], dtype="uint8"), fill, lambda x, t: F.nll_loss(x.reshape(1, 3), t)),
        "smoothed classes": by(
            lucid.tensor([2]), fill, lambda x, t: F.cross_entropy(x.reshape(1, 3), t, label_smoothing=0.5)
        ),
        "spatial classes": by(lucid.tensor([[2]]), fill, lambda x, t: F.nll_loss(x.reshape(1, 3, 1), t)),
    }


@pytest.mark.parametrize("name", index_cases())
def test_an_index_may_change_before_the_backward_pass(backend: str, name: str) -> None:
    gradients = []
    for changed in (False, True):
        x = leaf([1.0, 2.0, 4.0])
        y, change = index_cases()[name](x)
        if changed:
            change()
        y.sum().backward()
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1]


def test_the_places_of_a_pooling_are_its_own(backend: str) -> None:
    x = leaf(np.arange(16.0).reshape(1, 1, 4, 4))
    y, places = F.max_pool2d(x, 2, return_indices=True)
    places.zero_()
    y.sum().backward()
    assert np.flatnonzero(x.grad.numpy()).tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize("dtype", [lucid.float32, lucid.float64])
def test_statistics_may_go_on_after_an_evaluation(backend: str, dtype: Any) -> None:
    x, mean, var = leaf(draw(2, 3, 2, 2)).astype(dtype), lucid.zeros(3, dtype=dtype), lucid.ones(3, dtype=dtype)
    weight = lucid.ones(3, dtype=dtype, requires_grad=True)
    y = F.batch_norm(x, mean, var, weight, training=False)
    F.batch_norm(x + 5.0, mean, var, training=True)
    y.sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), x.numpy().sum((0, 2, 3)) / np.sqrt(1 + 1e-5), rtol=1e-5)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no gradient required": (lambda: lucid.ones(1).backward(), RuntimeError, "does not require a gradient"),
    "several elements, no gradient given": (lambda: (leaf([1.0, 2.0]) * 2).backward(), RuntimeError, "shape \\(2,\\)"),
    "gradient of another shape": (
        lambda: (leaf([1.0, 2.0]) * 2).backward(lucid.ones(3, dtype=lucid.float32)),
        RuntimeError,
        "must be float32 of shape \\(2,\\)",
    ),
    "gradient of another dtype": (
        lambda: (leaf([1.0, 2.0]) * 2).backward(lucid.ones(2, dtype=lucid.float64)),
        RuntimeError,
        "got float64",
    ),
    "integers have none": (lambda: lucid.tensor([1], requires_grad=True), RuntimeError, "int64"),
    "results cannot be made leaves": (
        lambda: setattr(leaf([1.0]) * 2, "requires_grad", False),
        RuntimeError,
        "detach",
    ),
    "hook on a tensor without gradient": (
        lambda: lucid.ones(1).register_hook(lambda g: g),
        RuntimeError,
        "does not require",
    ),
    "writing into a leaf": (lambda: leaf([1.0]).fill_(2.0), RuntimeError, "no_grad"),
    "writing into a result": (lambda: (leaf([1.0]) * 2).zero_(), RuntimeError, "no_grad"),
    "writing a result into a constant": (
        lambda: lucid.zeros(1).copy_(leaf([1.0])),
        RuntimeError,
        "gradient would be lost",
    ),
    "copying a result with its state": (
        lambda: __import__("copy").deepcopy(leaf([1.0]) * 2),
        RuntimeError,
        "only leaves",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    action, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        action()


# -- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_see_the_complete_gradient_once() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(("y", g.tolist())))
    x.register_hook(lambda g: seen.append(("x", g.tolist())))
    (y * 3 + y + x).sum().backward()
    assert seen == [("y", [4.0, 4.0]), ("x", [9.0, 9.0])]


def test_hooks_replace_gradients_in_turn() -> None:
    x = leaf([1.0])
    y = x * 2
    y.keep_grad = True
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: -g)
    y.sum().backward()
    assert y.grad.item() == 11.0
    assert x.grad.item() == -22.0


def test_removed_hooks_are_silent() -> None:
    x = leaf([1.0])
    handle = x.register_hook(lambda g: g * 100)
    with handle:
        pass
    handle.remove()
    (x * 2).backward()
    assert x.grad.item() == 2.0


def test_hooks_outlive_their_tensor() -> None:
    x = leaf([1.0])
    y = x * 2
    y.register_hook(lambda g: g * 10)
    z = y * 1
    del y
    z.backward()
    assert x.grad.item() == 20.0


@pytest.mark.parametrize("bad", [3, "g", np.zeros(1)])
def test_hooks_return_tensors_or_none(bad: Any) -> None:
    x = leaf([1.0])
    x.register_hook(lambda g: bad)
    with pytest.raises(RuntimeError, match="hook returned"):
        (x * 2).backward()


def test_hooks_return_gradients_of_the_right_shape() -> None:
    x = leaf([1.0, 2.0])
    (y := x * 2).register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="hook returned"):
        y.sum().backward()


def test_a_hook_that_keeps_the_gradient_keeps_its_own() -> None:
    x = leaf([1.0, 2.0])
    kept: list[lucid.Tensor] = []
    x.register_hook(kept.append)
    (x * 2).sum().backward()
    kept[0].fill_(7.0)
    assert x.grad.tolist() == [2.0, 2.0]


def test_hooks_run_unrecorded() -> None:
    x = leaf([1.0])
    modes = []
    x.register_hook(lambda g: modes.append(lucid.grad_enabled()))
    (x * 2).backward()
    assert modes == [False]


# -- devices ----------------------------------------------------------------------------------------------------------


def test_gradients_cross_devices(gpu: str) -> None:
    x = leaf([1.0, 2.0])
    y = x.to(gpu)
    z = (y * y).sum()
    assert (y.device, z.device, z.to("cpu").device) == ("gpu", "gpu", "cpu")
    (z.to("cpu") * 2).backward()
    assert x.grad.tolist() == [4.0, 8.0]
    assert x.grad.device == "cpu"


def test_devices_are_not_mixed(gpu: str) -> None:
    with pytest.raises(RuntimeError, match="add: got tensors on 'cpu' and 'gpu'"):
        lucid.ones(2) + lucid.ones(2).gpu()
    assert (lucid.ones(2).gpu() + 1.0).is_gpu()
