"""What all optimisers share: groups of parameters with their settings, a state for each parameter, saving both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lucid.backends import backend_for
from lucid.core.device import move
from lucid.core.grad_mode import enable_grad
from lucid.core.tensor import Tensor, misfit_of_grad, wrap
from lucid.nn.parameter import Parameter
from lucid.ops.creation import zeros_like

__all__ = ["Optimizer"]


class Optimizer:
    """The base of optimisers. A subclass defines ``_update(parameter, state, group)``.

    What it remembers follows the parameters: after ``module.to("gpu")`` or ``module.double()`` the next ``step`` takes
    the memory along.

    Args:
        params: parameters, or dicts with ``"params"`` and settings of their own.
        defaults: the settings of groups that have none of their own.

    Attributes:
        param_groups: a list of dicts: ``"params"`` and the settings. ``lr`` may be changed at any time.
        state: what the optimiser remembers of each parameter.

    Raises:
        TypeError: something that is no tensor, or not trainable.
        ValueError: no parameters, or one in two groups.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params: got a tensor; must be several parameters, or dicts of them")
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        groups = list(params)
        if not groups:
            raise ValueError("params: got none; must be at least one parameter")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with settings of their own; settings that ``group`` lacks are the defaults.

        A schedule takes the group in at its next step: the group's rate is then the formula of its own ``lr``.

        Raises:
            TypeError: ``group`` is no dict, or what it holds are no parameters.
            ValueError: no ``"params"``, an unknown setting, one that makes no sense, or a parameter given twice.
        """
        if not isinstance(group, Mapping):
            raise TypeError(f"group: got {type(group).__name__}; must be a dict with 'params' and settings")
        if "params" not in group:
            raise ValueError(f"group: got {sorted(map(str, group))}; must have 'params'")
        new = {**self.defaults, **group}
        given = new["params"]
        if isinstance(given, str | set | frozenset) or not isinstance(given, Tensor | Iterable):
            raise TypeError(f"params: got {type(given).__name__}; must be a parameter or parameters in an order")
        params = [given] if isinstance(given, Tensor) else list(given)
        if not params:
            raise ValueError("params: got none; must be at least one parameter")
        known = {id(p) for each in self.param_groups for p in each["params"]}
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"params: got {type(param).__name__}; must be parameters, as module.parameters() gives")
            if not param.is_leaf:
                raise TypeError("params: got the result of an operation; must be leaves, such as a module's parameters")
            if id(param) in known:
                raise ValueError("params: a parameter is given twice")
            known.add(id(param))
        unknown = [name for name in group if name not in ("params", "initial_lr") and name not in self.defaults]
        if unknown:
            raise ValueError(f"params: got settings {unknown}; may be {', '.join(self.defaults)}")
        new["params"] = params
        self._check(new)
        if any("initial_lr" in other for other in self.param_groups):  # there is a schedule
            new.setdefault("initial_lr", new["lr"])
        self.param_groups.append(new)

    def _check(self, group: dict[str, Any]) -> None:
        """Raise ValueError where the settings of a group make no sense."""

    def _update(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define _update")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with ``set_to_none=False`` they become zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none or param.grad is None:
                    param.grad = None
                else:
                    param.grad = zeros_like(param.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew; it is called first, and what it returns is returned.

        Raises:
            ValueError: a gradient whose shape, dtype or device is not its parameter's; no parameter has been changed
                then.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        work = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for param, _ in work:
            problem = misfit_of_grad(param, param.grad)
            if problem:
                raise ValueError(problem)
        for param, group in work:
            state = self.state.setdefault(param, {})
            _follow(param, state)
            self._update(param, state, group)
            param._changed()
        return loss

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Settings, and what is remembered of each parameter under its number; ``lucid.save`` can write it.

        Example:
            >>> import lucid
            >>> layer = lucid.nn.Linear(2, 1)
            >>> optimizer = lucid.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
            >>> optimizer.state_dict()["param_groups"][0]["params"]
            [0, 1]
        """
        numbers = {id(p): i for i, p in enumerate(self._all_params())}
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [numbers[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": {numbers[id(p)]: dict(state) for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take settings and memory from what ``state_dict`` returned. Tensors are copied.

        Raises:
            ValueError: other groups, or a memory whose shape is not its parameter's; nothing has been changed then.
        """
        if not isinstance(state_dict, Mapping) or not {"param_groups", "state"} <= set(state_dict):
            held = sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise ValueError(f"state_dict: got {held}; must hold 'param_groups' and 'state', as state_dict() returns")
        groups, params = state_dict["param_groups"], self._all_params()
        sizes = [len(group["params"]) for group in groups]
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(f"state_dict: has groups of {sizes} parameters; the optimizer has {own}")
        order = [number for group in groups for number in group["params"]]
        place = dict(zip(order, params, strict=True))
        state = {place[int(number)]: dict(memory) for number, memory in state_dict["state"].items()}
        for param, memory in state.items():
            for name, value in memory.items():
                if isinstance(value, Tensor):
                    if value.ndim and value.shape != param.shape:
                        raise ValueError(f"state_dict: {name} has shape {value.shape} for a parameter of {param.shape}")
                    memory[name] = Tensor(
                        value, dtype=value.dtype if not value.ndim else param.dtype, device=param.device
                    )
        self.state = state
        for group, new in zip(self.param_groups, groups, strict=True):
            group.update({name: value for name, value in new.items() if name != "params"})

    def _all_params(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{name}={value}" for name, value in group.items() if name != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {settings}")
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _follow(param: Tensor, state: dict[str, Any]) -> None:
    """Bring what is remembered of a parameter to where it lies now, and to its dtype."""
    for name, value in state.items():
        if isinstance(value, Tensor) and (value.device != param.device or (value.ndim and value.dtype != param.dtype)):
            dtype = param.dtype if value.ndim else value.dtype
            data = value._array if value.dtype == dtype else backend_for(value.device).convert(value._array, dtype)
            state[name] = wrap(move(data, param.device), param.device)
