"""Learning rates that change with the epoch.

Each schedule is a closed formula of the number of steps taken, applied to the rate that each group had at first, so
that no rounding gathers over epochs and a schedule can go on from any epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lucid.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "MultiStepLR", "StepLR"]


class LRScheduler:
    """The base of schedules. A subclass defines ``_rate(base, epoch, group)``; call ``step()`` after each epoch's
    updates.

    Args:
        optimizer: whose rates change.
        last_epoch: the epoch to go on from, -1 to begin.

    Raises:
        TypeError: ``optimizer`` is none.
        KeyError: ``last_epoch`` is not -1, and the optimiser's groups have no ``initial_lr``.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: got {type(optimizer).__name__}; must be an Optimizer")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group["initial_lr"] = group["lr"]
            elif "initial_lr" not in group:
                raise KeyError("last_epoch: to go on from it, each group of the optimizer needs its 'initial_lr'")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def _rate(self, base: float, epoch: int, group: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} does not define _rate")

    def step(self) -> None:
        """Go to the next epoch and set its rates, also of groups that were added since: theirs follow the formula of
        this epoch, from their own rate."""
        self.last_epoch += 1
        groups = self.optimizer.param_groups
        for group in groups[len(self.base_lrs) :]:  # added since
            self.base_lrs.append(group.setdefault("initial_lr", group["lr"]))
        rates = [self._rate(base, self.last_epoch, i) for i, base in enumerate(self.base_lrs)]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the rates at first; ``lucid.save`` can write it."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, and set the rates of that epoch.

        Raises:
            ValueError: another number of groups.
        """
        if not isinstance(state_dict, Mapping) or not {"base_lrs", "last_epoch"} <= set(state_dict):
            held = sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise ValueError(f"state_dict: got {held}; must hold 'base_lrs' and 'last_epoch', as state_dict() returns")
        rates, groups = list(state_dict["base_lrs"]), self.optimizer.param_groups
        if len(rates) != len(groups):
            raise ValueError(f"state_dict: has {len(rates)} groups; the optimizer has {len(groups)}")
        self.base_lrs = rates
        self.last_epoch = int(state_dict["last_epoch"]) - 1
        self.step()


class LambdaLR(LRScheduler):
    """``base * f(epoch)``.

    Args:
        optimizer: whose rates change.
        lr_lambda: a function of the epoch, or one for each group.
        last_epoch: the epoch to go on from, -1 to begin.

    Raises:
        ValueError: another number of functions than of groups.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._of_all = None if isinstance(lr_lambda, Sequence) else lr_lambda
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else []
        if self._of_all is None and isinstance(optimizer, Optimizer):
            self._refuse_another_count(len(optimizer.param_groups))
        super().__init__(optimizer, last_epoch)

    def _refuse_another_count(self, count: int) -> None:
        if len(self.lr_lambdas) != count:
            raise ValueError(
                f"lr_lambda: got {len(self.lr_lambdas)} functions; the optimizer has {count} groups "
                "(after add_param_group, append to lr_lambdas)"
            )

    def step(self) -> None:
        """Go to the next epoch and set its rates.

        Raises:
            ValueError: a group was added, and each group has a function of its own; the epoch has not changed then.
        """
        count = len(self.optimizer.param_groups)
        if self._of_all is not None:
            self.lr_lambdas += [self._of_all] * (count - len(self.lr_lambdas))
        self._refuse_another_count(count)
        super().step()

    def _rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.lr_lambdas[group](epoch)


class StepLR(LRScheduler):
    """``base * gamma ^ floor(epoch / step_size)``.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"step_size: got {step_size}; may be at least 1")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """``base * gamma ^ (the number of milestones reached)``.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """``base * gamma ^ epoch``.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma**epoch


class CosineAnnealingLR(LRScheduler):
    """``eta_min + (base - eta_min) * (1 + cos(pi * epoch / T_max)) / 2``.

    Source: Loshchilov and Hutter, ICLR 2017, without restarts.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"T_max: got {T_max}; may be at least 1")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, epoch: int, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2
