"""Modules that hold modules, or parameters."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from lucid.nn._fused import chain
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Numbered(Module):
    """Modules named "0", "1", ..."""

    def _at(self, index: int) -> Module:
        return self.__dict__[self._name(index)]

    def _name(self, index: int) -> str:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index: got {index}; {type(self).__name__} has {len(self)} modules")
        return list(self._modules)[number]

    def _all(self) -> list[Module]:
        return [self.__dict__[name] for name in self._modules]

    def _renumber(self, modules: list[Module]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all())

    def __contains__(self, module: object) -> bool:
        return any(module is inner for inner in self._all())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = self._all()
        del modules[index]
        self._renumber(modules)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns the container."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before the one at ``index``; returns the container."""
        modules = self._all()
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Numbered):
    """Modules that run one after the other, each on the output of the one before.

    Args:
        modules: the modules, named "0", "1", ...; or one mapping of names and modules.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> nn.Sequential(nn.Flatten(), nn.Linear(4, 2))(lucid.zeros(3, 2, 2)).shape
        (3, 2)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    @classmethod
    def from_modules(cls, *modules: Module) -> Sequential:
        """Modules named "0", "1", ...

        Example:
            >>> from lucid import nn
            >>> len(nn.Sequential.from_modules(nn.Flatten(), nn.ReLU()))
            2
        """
        made = cls()
        made.extend(modules)
        return made

    @classmethod
    def from_ordered_dict(cls, modules: Mapping[str, Module]) -> Sequential:
        """Modules by the names of a mapping, in its order.

        Example:
            >>> from lucid import nn
            >>> nn.Sequential.from_ordered_dict({"act": nn.ReLU()}).act
            ReLU()
        """
        return cls(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Sequential({name: self.__dict__[name] for name in list(self._modules)[index]})
        return self._at(index)

    def forward(self, input: Any) -> Any:
        """``input`` through all modules."""
        fields = self.__dict__
        return chain([fields[name] for name in self._modules], input)


class ModuleList(_Numbered):
    """A list of modules, which are registered; running them is up to its owner.

    Example:
        >>> from lucid import nn
        >>> len(nn.ModuleList([nn.Identity(), nn.ReLU()]))
        2
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: Any) -> Any:
        return ModuleList(self._all()[index]) if isinstance(index, slice) else self._at(index)


class ModuleDict(Module):
    """A dict of modules, which are registered; running them is up to its owner.

    Example:
        >>> from lucid import nn
        >>> list(nn.ModuleDict({"a": nn.Identity(), "b": nn.ReLU()}))
        ['a', 'b']
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, name: str) -> Module:
        if name not in self._modules:
            raise KeyError(f"name: got {name!r}; may be one of {', '.join(self._modules) or 'none'}")
        return self.__dict__[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> list[Module]:
        """The modules."""
        return [self.__dict__[name] for name in self._modules]

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules."""
        return [(name, self.__dict__[name]) for name in self._modules]

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add the modules of a mapping, or replace those of the same names."""
        for name, module in modules.items():
            self.add_module(name, module)

    def pop(self, name: str) -> Module:
        """Take a module out and return it."""
        module = self[name]
        delattr(self, name)
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for name in list(self._modules):
            delattr(self, name)


class _Parameters(Module):
    """Parameters by name; what is no parameter yet becomes one, of the same memory."""

    def _put(self, name: str, value: Any) -> None:
        setattr(self, name, value if isinstance(value, Parameter) else Parameter(value))

    def __len__(self) -> int:
        return len(self._parameters)

    def extra_repr(self) -> str:
        """What each is."""
        return "\n".join(f"({name}): {self.__dict__[name].shape}" for name in self._parameters)


class ParameterList(_Parameters):
    """A list of parameters, which are registered as "0", "1", ...

    Args:
        values: parameters, or tensors and arrays, which become parameters of the same memory.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> [p.shape for p in nn.ParameterList([lucid.ones(2), lucid.ones(3, 1)])]
        [(2,), (3, 1)]
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def _name(self, index: int) -> str:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index: got {index}; ParameterList has {len(self)} parameters")
        return str(number % len(self))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self.__dict__[self._name(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self._put(self._name(index), value)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self.__dict__[name] for name in self._parameters])

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; returns the list."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end; returns the list."""
        for value in values:
            self.append(value)
        return self


class ParameterDict(_Parameters):
    """A dict of parameters, which are registered.

    Args:
        values: names, and parameters, or tensors and arrays, which become parameters of the same memory.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> nn.ParameterDict({"scale": lucid.ones(2)})["scale"].requires_grad
        True
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(values or {})

    def __getitem__(self, name: str) -> Parameter:
        if name not in self._parameters:
            raise KeyError(f"name: got {name!r}; may be one of {', '.join(self._parameters) or 'none'}")
        return self.__dict__[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._put(name, value)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def values(self) -> list[Parameter]:
        """The parameters."""
        return [self.__dict__[name] for name in self._parameters]

    def items(self) -> list[tuple[str, Parameter]]:
        """Names and parameters."""
        return [(name, self.__dict__[name]) for name in self._parameters]

    def update(self, values: Mapping[str, Any]) -> None:
        """Add the parameters of a mapping, or replace those of the same names."""
        for name, value in values.items():
            self._put(name, value)

    def pop(self, name: str) -> Parameter:
        """Take a parameter out and return it."""
        value = self[name]
        delattr(self, name)
        return value

    def clear(self) -> None:
        """Take all parameters out."""
        for name in list(self._parameters):
            delattr(self, name)
