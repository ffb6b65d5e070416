"""The table of models by name: a factory is entered with ``@register_model`` and found again with ``get_model``.

A name that is not in the table is answered with the nearest one that is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from lucid import nn

__all__ = ["get_model", "get_model_names", "register_model"]

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])

_factories: dict[str, Callable[..., nn.Module]] = {}


def register_model(factory: Factory) -> Factory:
    """Enter a factory in the table under its own name; a decorator.

    Raises:
        ValueError: another factory has that name already.

    Example:
        >>> from lucid import nn
        >>> from lucid.models import get_model, register_model
        >>> @register_model
        ... def tiny_linear(num_classes: int = 2) -> nn.Module:
        ...     return nn.Linear(4, num_classes)
        >>> get_model("tiny_linear", num_classes=3).weight.shape
        (3, 4)
        >>> from lucid.models import registry
        >>> del registry._factories["tiny_linear"]
    """
    name = factory.__name__
    known = _factories.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (factory.__module__, factory.__qualname__):
        raise ValueError(f"register_model: {name!r} is the name of another model, from {known.__module__}")
    _factories[name] = factory
    return factory


def get_model_names() -> list[str]:
    """The names that ``get_model`` knows, in the order of their entry.

    Example:
        >>> from lucid.models import get_model_names
        >>> get_model_names()[:3]
        ['resnet_18', 'resnet_34', 'resnet_50']
    """
    return list(_factories)


def get_model(name: str, **kwargs: Any) -> nn.Module:
    """Make the model called ``name``; the keyword arguments go to its factory.

    Raises:
        ValueError: no model has that name; the message suggests the nearest.

    Example:
        >>> from lucid.models import get_model
        >>> get_model("resnet_18", num_classes=10, stem_width=8, channels=(8, 16, 32, 64)).num_classes
        10
        >>> get_model("resnet50")
        Traceback (most recent call last):
        ...
        ValueError: name: no model is called 'resnet50'; did you mean 'resnet_50'?
    """
    try:
        factory = _factories[name]
    except (KeyError, TypeError):
        raise ValueError(f"name: no model is called {name!r}; {_suggestion(name)}") from None
    return factory(**kwargs)


def _suggestion(name: object) -> str:
    near = difflib.get_close_matches(str(name).lower(), _factories, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it may be one of {', '.join(_factories)}"
