"""The module: parameters, buffers and modules under names, and one call that runs them.

What is registered lives in the module's own attributes; ``_parameters``, ``_buffers`` and ``_modules`` hold only the
names, in order of registration, so that there is one place where each value stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lucid.backends import backend_for
from lucid.core.device import check_device, move, names_device
from lucid.core.dtypes import as_dtype, float32, float64
from lucid.core.node import HookHandle
from lucid.core.tensor import Tensor, as_tensor
from lucid.nn._hooks import BackwardHooks
from lucid.nn.parameter import Buffer, Parameter
from lucid.ops import _function

__all__ = ["Module"]

_Self = TypeVar("_Self", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` returns: names that it missed, and names that the module does not have."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """The base of layers and networks.

    A subclass calls ``super().__init__()``, then assigns parameters (``Parameter``), buffers (``Buffer`` or
    ``register_buffer``) and modules to attributes, and defines ``forward``. Calling the module runs ``forward`` and
    the hooks.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner = nn.Linear(2, 2)
        ...     def forward(self, x):
        ...         return self.inner(self.inner(x))
        >>> model = Twice()
        >>> model
        Twice(
          (inner): Linear(in_features=2, out_features=2, bias=True)
        )
        >>> [name for name, _ in model.named_parameters()]
        ['inner.weight', 'inner.bias']
    """

    training: bool = True
    _parameters: dict[str, None]
    _buffers: dict[str, bool]
    _modules: dict[str, None]
    _forward_hooks: dict[int, Any] | None = None
    _forward_pre_hooks: dict[int, Any] | None = None
    _backward_hooks: dict[int, Any] | None = None

    def __init__(self) -> None:
        fields = self.__dict__
        fields["training"] = True
        fields["_parameters"] = {}
        fields["_buffers"] = {}  # name: whether it is part of the state
        fields["_modules"] = {}

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tracer = _function._tracer
        if tracer is not None:
            tracer.enter(self)
        if self._forward_pre_hooks or self._backward_hooks or self._forward_hooks:
            output = self._call_with_hooks(args, kwargs)
        else:
            output = self.forward(*args, **kwargs)
        if tracer is not None:
            tracer.exit(self, output)
        return output

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list((self._forward_pre_hooks or {}).values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        backward = None
        if self._backward_hooks:
            backward = BackwardHooks(self, list(self._backward_hooks.values()))
            args = backward.wrap_inputs(args)
        output = self.forward(*args, **kwargs)
        for hook in list((self._forward_hooks or {}).values()):
            changed = hook(self, args, output)
            if changed is not None:
                output = changed
        return output if backward is None else backward.wrap_outputs(output)

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> HookHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns, unless None, replaces ``args``."""
        return self._register("_forward_pre_hooks", hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> HookHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns, unless None, replaces the output.

        Example:
            >>> import lucid
            >>> layer = lucid.nn.ReLU()
            >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
            >>> layer(lucid.zeros(2))
            tensor([1., 1.])
            >>> handle.remove()
        """
        return self._register("_forward_hooks", hook)

    def register_backward_hook(self, hook: Callable[[Any, Any, Any], Any]) -> HookHandle:
        """Call ``hook(module, grad_input, grad_output)`` in the backward pass, once both are complete.

        Both are tuples: the gradients of the positional inputs, and of the outputs, with None where there is none.
        What the hook returns, unless None, replaces ``grad_input``. Where no input needs a gradient, ``grad_input``
        is all None. This is PyTorch's full backward hook.

        Example:
            >>> import lucid
            >>> layer = lucid.nn.ReLU()
            >>> handle = layer.register_backward_hook(lambda module, into, out: (into[0] * 2,))
            >>> x = lucid.ones(2, requires_grad=True)
            >>> layer(x).sum().backward()
            >>> x.grad
            tensor([2., 2.])
        """
        return self._register("_backward_hooks", hook)

    register_full_backward_hook = register_backward_hook

    def _register(self, kind: str, hook: Callable[..., Any]) -> HookHandle:
        hooks = getattr(self, kind)
        if hooks is None:
            hooks = self.__dict__[kind] = {}
        return HookHandle(hooks, hook)

    # -- registering -------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if isinstance(value, Parameter):
            self._enter("_parameters", name, None)
        elif isinstance(value, Module):
            self._enter("_modules", name, None)
        elif isinstance(value, Buffer):
            self._enter("_buffers", name, value.persistent)
        elif name in fields.get("_parameters", ()) and value is not None:
            raise TypeError(f"{name}: got {type(value).__name__} for a parameter; may be a Parameter or None")
        elif name in fields.get("_modules", ()) and value is not None:
            raise TypeError(f"{name}: got {type(value).__name__} for a module; may be a Module or None")
        elif name in fields.get("_buffers", ()) and not (value is None or isinstance(value, Tensor)):
            raise TypeError(f"{name}: got {type(value).__name__} for a buffer; may be a Tensor or None")
        object.__setattr__(self, name, value)

    def _enter(self, kind: str, name: str, entry: Any) -> None:
        """Note ``name`` in the registry ``kind``, and in no other."""
        fields = self.__dict__
        if "_modules" not in fields:
            raise AttributeError(
                f"{name}: cannot be assigned before {type(self).__name__} has called super().__init__()"
            )
        for other in ("_parameters", "_buffers", "_modules"):
            if other != kind:
                fields[other].pop(name, None)
        fields[kind][name] = entry

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        for kind in ("_parameters", "_buffers", "_modules"):
            self.__dict__[kind].pop(name, None)

    def _check_name(self, kind: str, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{kind} name: got {name!r}; must be text, not empty, without dots")
        registered = name in self._parameters or name in self._buffers or name in self._modules
        if hasattr(self, name) and not registered:
            raise KeyError(f"{kind} name: {name!r} is an attribute of {type(self).__name__} already")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name for one that is missing.

        Raises:
            KeyError: a name that is taken, empty or has a dot.
            TypeError: ``param`` is no Parameter.
        """
        self._check_name("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"param: got {type(param).__name__}; may be a Parameter or None")
        self._enter("_parameters", name, None)
        object.__setattr__(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer under ``name``; with ``persistent=False`` it is no part of ``state_dict``. Errors as above.

        Example:
            >>> import lucid
            >>> module = lucid.nn.Module()
            >>> module.register_buffer("scale", lucid.ones(2))
            >>> list(module.state_dict())
            ['scale']
        """
        self._check_name("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"tensor: got {type(tensor).__name__}; may be a Tensor or None")
        self._enter("_buffers", name, persistent)
        object.__setattr__(self, name, tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a module under ``name``. Errors as ``register_parameter``."""
        self._check_name("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"module: got {type(module).__name__}; may be a Module or None")
        self._enter("_modules", name, None)
        object.__setattr__(self, name, module)

    register_module = add_module

    # -- looking through it ------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Names and modules directly inside, each module once."""
        seen = set()
        for name in self._modules:
            module = self.__dict__[name]
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly inside."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Paths and modules: this one (under ``prefix``) and all inside it, outer first, each once by default."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name in self._modules:
            module = self.__dict__[name]
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, each once."""
        return (module for _, module in self.named_modules())

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name in getattr(module, kind):
                value = module.__dict__[name]
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Paths and parameters, of this module alone unless ``recurse``, each once by default."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Paths and buffers, of this module alone unless ``recurse``, each once by default."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at the path ``target``; the empty path is this module.

        Raises:
            AttributeError: there is none.
        """
        module: Module = self
        for name in target.split(".") if target else ():
            if name not in module._modules or module.__dict__[name] is None:
                raise AttributeError(f"{target}: {type(module).__name__} has no module {name!r}")
            module = module.__dict__[name]
        return module

    def count_parameters(self, recurse: bool = True) -> int:
        """How many numbers the parameters hold.

        Example:
            >>> import lucid
            >>> lucid.nn.Linear(3, 2).count_parameters()
            8
        """
        return sum(parameter.size for parameter in self.parameters(recurse))

    @property
    def parameter_size(self) -> int:
        """How many numbers the parameters hold, of all modules inside."""
        return self.count_parameters()

    # -- changing all of it ------------------------------------------------------------------------------------------

    def apply(self: _Self, fn: Callable[[Module], Any]) -> _Self:
        """Call ``fn`` on every module inside, inner before outer, then on this one; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: _Self, mode: bool = True) -> _Self:
        """Switch this module and all inside to training, or to evaluation; returns the module."""
        if not isinstance(mode, bool):
            raise ValueError(f"mode: got {mode!r}; may be True or False")
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self: _Self) -> _Self:
        """Switch to evaluation: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: _Self, requires_grad: bool = True) -> _Self:
        """Set whether the parameters are trained; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self: _Self, *targets: Any) -> _Self:
        """Move all parameters and buffers to a device, or convert the float ones to a float dtype, in place.

        Args:
            targets: a device's name, a dtype, or both.

        Raises:
            TypeError: a dtype that is not float32 or float64.
            ValueError, RuntimeError: a device that is unknown or that nothing serves here; nothing has been moved then.

        Example:
            >>> import lucid
            >>> lucid.nn.Linear(2, 2).to(lucid.float64).weight.dtype
            dtype('float64')
        """
        for target in targets:
            if names_device(target):
                backend_for(check_device(target))
                self._convert_all(_Mover(target))
                continue
            dtype = as_dtype(target)
            if dtype not in (float32, float64):
                raise TypeError(f"dtype: got {dtype}; a module may be float32 or float64")
            self._convert_all(_Converter(dtype))
        return self

    def float(self: _Self) -> _Self:
        """Convert to float32, in place."""
        return self.to(float32)

    def double(self: _Self) -> _Self:
        """Convert to float64, in place."""
        return self.to(float64)

    def _convert_all(self, convert: Callable[[Tensor], None]) -> None:
        for _, tensor in [*self.named_parameters(), *self.named_buffers()]:
            convert(tensor)
            if tensor.grad is not None:
                convert(tensor.grad)

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Paths and tensors of all parameters and persistent buffers.

        Args:
            prefix: what to put before each path.
            keep_vars: whether to return the parameters themselves instead of detached tensors that share their memory.

        Example:
            >>> import lucid
            >>> list(lucid.nn.BatchNorm2d(2).state_dict())
            ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        state: dict[str, Tensor] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            before = f"{prefix}{path}." if path else prefix
            for name in (*module._parameters, *[n for n, kept in module._buffers.items() if kept]):
                value = module.__dict__[name]
                if value is not None:
                    state[before + name] = value if keep_vars else value.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy tensors (or arrays) into the parameters and buffers of the same paths, converted to their dtypes and
        brought to their devices.

        Args:
            state_dict: what ``state_dict`` returned, or ``lucid.load`` read.
            strict: whether every path must be in both. Without it, the others are only returned; shapes must fit
                anyway.

        Returns:
            ``(missing_keys, unexpected_keys)``.

        Raises:
            RuntimeError: one error that lists everything missing, unexpected, of another shape or of another kind of
                dtype; nothing has been changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: got {type(state_dict).__name__}; must be a dict of names and tensors")
        own = self.state_dict(keep_vars=True)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        lines, new = [], {}
        for name in own:
            if name not in state_dict:
                continue
            try:
                value = new[name] = as_tensor(state_dict[name])
            except (TypeError, ValueError):
                given = state_dict[name]
                shown = f"{given!r:.40}" if given is None or isinstance(given, str) else type(given).__name__
                lines.append(f"wrong value: {name} is {shown}, must be a tensor or an array")
                continue
            problem = _misfit(name, own[name], value)
            if problem:
                lines.append(problem)
        if strict:
            lines += [f"missing: {name}" for name in missing] + [f"unexpected: {name}" for name in unexpected]
        if lines:
            listed = "\n  ".join(lines)
            raise RuntimeError(f"the state does not fit {type(self).__name__}, which is unchanged:\n  {listed}")
        for name, value in new.items():
            tensor = own[name]
            tensor._array[...] = value._array if value.device == tensor.device else move(value._array, tensor.device)
            tensor._changed()
        return IncompatibleKeys(missing, unexpected)

    # -- showing -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` shows of the module's own settings; a subclass defines it."""
        return ""

    def __repr__(self) -> str:
        lines = self.extra_repr().split("\n") if self.extra_repr() else []
        children = [f"({name}): {_indent(repr(self.__dict__[name]))}" for name in self._modules]
        name = type(self).__name__
        if not children:
            return f"{name}({lines[0] if lines else ''})" if len(lines) <= 1 else _block(name, lines)
        return _block(name, lines + children)


def _block(name: str, lines: list[str]) -> str:
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


class _Converter:
    """Converts float tensors to a dtype, in place."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __call__(self, tensor: Tensor) -> None:
        if tensor.dtype.kind == "f" and tensor.dtype != self.dtype:
            tensor._put(backend_for(tensor.device).convert(tensor._array, self.dtype), tensor.device)


class _Mover:
    """Moves tensors to a device, in place."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, tensor: Tensor) -> None:
        if tensor.device != self.device:
            tensor._put(move(tensor._array, self.device), self.device)


def _misfit(name: str, tensor: Tensor, value: Tensor) -> str:
    """Why ``value`` cannot become that of ``tensor``, or nothing."""
    if value.shape != tensor.shape:
        return f"wrong shape: {name} is {value.shape}, must be {tensor.shape}"
    if (value.dtype.kind == "f") != (tensor.dtype.kind == "f"):  # quantised weights are no weights without their scale
        return f"wrong dtype: {name} is {value.dtype}, must be {tensor.dtype}"
    return ""
