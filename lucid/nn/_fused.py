"""Runs modules that stand in a row as one operation, where nobody could tell but by the clock.

The modules are run one by one wherever somebody watches them: a hook, a tracer, a forward of their own, a class derived
from lucid's. The results have the same bits either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid.core.grad_mode import recording
from lucid.core.tensor import Tensor
from lucid.nn.activation import ReLU
from lucid.nn.conv import Conv1d, Conv2d, Conv3d
from lucid.nn.module import Module
from lucid.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from lucid.ops import _function, relu
from lucid.ops.fused import conv2d_add, conv2d_norm_act

__all__ = ["chain", "conv_add", "conv_norm_act", "norm_act"]


def unwatched(*modules: Module | None) -> bool:
    """Whether modules may be run without being called."""
    if _function._tracer is not None:
        return False
    for module in modules:
        if module is None:
            continue
        if type(module) not in _PLAIN or "forward" in module.__dict__:
            return False
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return False
    return True


_NORM_OF: dict[type, type] = {Conv1d: BatchNorm1d, Conv2d: BatchNorm2d, Conv3d: BatchNorm3d}
_CONVOLUTIONS, _NORMS = (Conv1d, Conv2d, Conv3d), (BatchNorm1d, BatchNorm2d, BatchNorm3d)
_PLAIN = frozenset({*_CONVOLUTIONS, *_NORMS, ReLU})


def norm_act(
    norm: Module, act: Module | None, x: Tensor, shortcut: Callable[[], Tensor] | None = None, relu_after: bool = False
) -> Tensor:
    """``act(norm(x))``, or, with a shortcut, ``norm(x) + shortcut()`` and, if ``relu_after``, ReLU."""
    if not unwatched(norm, act):
        return _finish(act, norm(x), shortcut, relu_after)
    assert isinstance(norm, _NORMS)
    residual = None if shortcut is None else shortcut()
    return norm.normalize(x, relu=act is not None or relu_after, residual=residual)


def conv_add(conv: Module, x: Tensor, shortcut: Callable[[], Tensor]) -> Tensor:
    """``conv(x) + shortcut()``."""
    if not unwatched(conv):
        return _finish(None, conv(x), shortcut, False)
    assert isinstance(conv, _CONVOLUTIONS)
    residual = shortcut()
    return conv2d_add(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups, residual)


def conv_norm_act(
    conv: Module,
    norm: Module,
    act: Module | None,
    x: Tensor,
    shortcut: Callable[[], Tensor] | None = None,
    relu_after: bool = False,
) -> Tensor:
    """``norm_act`` of ``conv(x)``."""
    if not unwatched(conv, norm, act):
        return _finish(act, norm(conv(x)), shortcut, relu_after)
    assert isinstance(conv, _CONVOLUTIONS)
    assert isinstance(norm, _NORMS)
    mean, var = norm.running_mean, norm.running_var
    if norm.training or mean is None or var is None or recording.enabled or conv.out_channels != norm.num_features:
        return norm_act(norm, act, conv(x), shortcut, relu_after)
    residual = None if shortcut is None else shortcut()
    return conv2d_norm_act(
        x,
        conv.weight,
        conv.bias,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        mean,
        var,
        norm.weight,
        norm.bias,
        norm.eps,
        act is not None or relu_after,
        residual,
    )


def _finish(act: Module | None, y: Tensor, shortcut: Callable[[], Tensor] | None, relu_after: bool) -> Tensor:
    if act is not None:
        y = act(y)
    if shortcut is not None:
        y = y + shortcut()
    return relu(y) if relu_after else y


def chain(modules: list[Module], x: Any) -> Any:
    """``x`` through all modules; convolution, normalisation and ReLU in a row become one operation."""
    i = 0
    while i < len(modules):
        module = modules[i]
        behind: list[type] = [type(other) for other in modules[i + 1 : i + 3]]
        if type(module) in _NORM_OF and behind[:1] == [_NORM_OF[type(module)]]:
            act = modules[i + 2] if behind[1:] == [ReLU] else None
            x = conv_norm_act(module, modules[i + 1], act, x)
            i += 2 if act is None else 3
        elif type(module) in _NORMS and behind[:1] == [ReLU]:
            x = norm_act(module, modules[i + 1], x)
            i += 2
        else:
            x = module(x)
            i += 1
    return x
