"""Learning rates that change with the step: PyTorch's schedules, which chain and resume as PyTorch's do.

Most of them work out the next rate from the one now, so that several may change the rates of one optimiser in turn;
the formula of a rate from the first one serves groups that are added later. Rates are float64, in the order in which
the formulas stand; ``power`` is section 5 of the law and ``cosine`` correctly rounded, so that a rate has the same bits
on every machine, unlike ``math.cos``.
"""

from __future__ import annotations

import math
import numbers
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lucid.core.angles import of_radians
from lucid.optim._rule import power
from lucid.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

_Functions = Callable[[int], float] | Sequence[Callable[[int], float]]


def cosine(x: float) -> float:
    """The float64 nearest to the cosine of ``x``."""
    return of_radians(x)[0]


class LRScheduler:
    """The base of schedules. A subclass defines ``get_lr``; call ``step()`` after each epoch's, or step's, updates.

    Args:
        optimizer: whose rates change.
        last_epoch: the epoch to go on from, -1 to begin.

    Raises:
        TypeError: ``optimizer`` is none.
        KeyError: ``last_epoch`` is not -1, and the optimiser's groups have no ``initial_lr``.
    """

    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _optimizer(type(self), optimizer)
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError("last_epoch: to go on from it, each group of the optimizer needs its 'initial_lr'")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._is_initial = True
        try:
            self.step()
        finally:
            del self._is_initial

    def get_lr(self) -> list[float]:
        """The rates of ``last_epoch``, from those now."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr")

    def _rate(self, base: float, epoch: int) -> float | None:
        """The rate of an epoch from the first one, if there is a formula for it."""
        return None

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set(self, rates: Iterable[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self._rates()

    def step(self) -> None:
        """Go to the next epoch and set its rates, also of groups that were added since: theirs follow the formula of
        this epoch, from their own rate, where the schedule has one."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:  # added since
            base = group.setdefault("initial_lr", group["lr"])
            now = self._rate(base, self.last_epoch)
            group["lr"] = base if now is None else now
            self.base_lrs.append(base)
        self._go_to(self.last_epoch + 1)

    def _go_to(self, epoch: int, afresh: bool = False) -> None:
        """Set the rates of an epoch; ``afresh``, from the first rates where there is a formula."""
        before, self.last_epoch = self.last_epoch, epoch
        try:
            first = [self._rate(base, epoch) for base in self.base_lrs] if afresh else [None]
            rates = self.get_lr() if None in first else first
        except BaseException:
            self.last_epoch = before
            raise
        self._set(rates)  # type: ignore[arg-type]

    def get_last_lr(self) -> list[float]:
        """The rate of each group after this schedule's last step; of groups that were added since, the rate now."""
        return [*self._last_lr, *self._rates()[len(self._last_lr) :]]

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the settings but for functions, and the rates now; ``lucid.save`` can write it."""
        own = {name: _copied(value) for name, value in vars(self).items() if name not in self._not_saved}
        return {**own, "rates": self._rates()}

    _not_saved: tuple[str, ...] = ("optimizer",)
    _must_hold: tuple[str, ...] = ("base_lrs", "last_epoch")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, and set the rates of then.

        Raises:
            ValueError: another number of groups, or something else than a state.
        """
        if not isinstance(state_dict, Mapping) or not set(self._must_hold) <= set(state_dict):
            held = sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            must = " and ".join([repr(name) for name in self._must_hold])
            raise ValueError(f"state_dict: got {held}; must hold {must}, as state_dict() returns")
        own = {name: _copied(value) for name, value in state_dict.items() if name not in self._not_saved}
        rates, groups = own.pop("rates", own.get("_last_lr")), self.optimizer.param_groups
        count = len(own.get("base_lrs", rates))
        if count != len(groups):
            raise ValueError(f"state_dict: has {count} groups; the optimizer has {len(groups)}")
        vars(self).update(own)
        if rates is None:
            rates = [self._rate(base, self.last_epoch) for base in self.base_lrs]
            rates = self._rates() if None in rates else rates
        last = own.get("_last_lr")
        self._set(rates)
        self._last_lr = self._last_lr if last is None else last


def _optimizer(schedule: type, optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}; must be an Optimizer, {schedule.__name__}'s first argument"
        )
    return optimizer


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _each(name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """A number for each group, of one for all or of one for each."""
    count = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name}: got {len(value)} numbers; may be one, or one for each of {count} groups")
    return list(value)


def _at_least(least: float, **given: Any) -> None:
    for name, value in given.items():
        whole = isinstance(least, int)
        if not isinstance(value, numbers.Integral if whole else numbers.Real) or isinstance(value, bool):
            raise TypeError(f"{name}: got {value!r}; may be {'an integer' if whole else 'a number'} of {least} or more")
        if not float(value) >= least:
            raise ValueError(f"{name}: got {value}; may be at least {least}")


def _between(low: float, high: float, **given: float) -> None:
    for name, value in given.items():
        if not low <= value <= high:
            raise ValueError(f"{name}: got {value}; may be {low:g} to {high:g}")


class _OfFunctions(LRScheduler):
    """A schedule by a function of the epoch, or one for each group."""

    _not_saved = "optimizer", "lr_lambdas", "_of_all"

    def __init__(self, optimizer: Optimizer, lr_lambda: _Functions, last_epoch: int = -1) -> None:
        _optimizer(type(self), optimizer)
        self._of_all = None if isinstance(lr_lambda, Sequence) else lr_lambda
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, Sequence) else []
        for f in self.lr_lambdas if self._of_all is None else [self._of_all]:
            if not callable(f):
                raise TypeError(f"lr_lambda: got {f!r}; may be a function of the epoch, or one for each group")
        if self._of_all is None:
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


class LambdaLR(_OfFunctions):
    """``base * f(epoch)``.

    Args:
        optimizer: whose rates change.
        lr_lambda: a function of the epoch, or one for each group.
        last_epoch: the epoch to go on from, -1 to begin.

    Raises:
        TypeError: ``optimizer`` is none, as where the arguments change places; ``lr_lambda`` is no function.
        ValueError: another number of functions than of groups.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(_OfFunctions):
    """The rate times ``f(epoch)``, at each step.

    Args:
        optimizer: whose rates change.
        lr_lambda: a function of the epoch, or one for each group.
        last_epoch: the epoch to go on from, -1 to begin.

    Raises:
        TypeError: ``optimizer`` is none, as where the arguments change places; ``lr_lambda`` is no function.
        ValueError: another number of functions than of groups.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        return [rate * f(self.last_epoch) for rate, f in zip(self._rates(), self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """The rate times ``gamma`` after every ``step_size`` epochs: ``base * gamma ^ floor(epoch / step_size)``.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        _at_least(1, step_size=step_size)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._rates()
        return [rate * self.gamma for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        return base * power(self.gamma, epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each milestone: ``base * gamma ^ (the number of milestones reached)``.

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

    def get_lr(self) -> list[float]:
        times = Counter(self.milestones)[self.last_epoch]
        return [rate * power(self.gamma, times) for rate in self._rates()] if times else self._rates()

    def _rate(self, base: float, epoch: int) -> float:
        return base * power(self.gamma, bisect_right(self.milestones, epoch))


class ConstantLR(LRScheduler):
    """``base * factor`` until ``total_iters``, then ``base``.

    Raises:
        ValueError: ``factor`` is not 0 to 1.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=1)
        >>> schedule.get_last_lr()
        [0.5]
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        _between(0.0, 1.0, factor=factor)
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.factor for rate in self._rates()]
        if self.last_epoch != self.total_iters:
            return self._rates()
        return [rate * (1.0 / self.factor) for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        return base * (self.factor + (epoch >= self.total_iters) * (1 - self.factor))


class LinearLR(LRScheduler):
    """``base`` times a factor that goes from ``start_factor`` to ``end_factor`` in ``total_iters`` equal steps.

    Raises:
        ValueError: ``start_factor`` is 0 or less, or a factor is above 1.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _between(0.0, 1.0, start_factor=start_factor, end_factor=end_factor)
        if start_factor == 0:
            raise ValueError("start_factor: got 0; may be above 0, to 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self._rates()]
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [rate * (1.0 + rise / before) for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        rise = (self.end_factor - self.start_factor) * min(self.total_iters, epoch)
        return base * (self.start_factor + rise / self.total_iters)


class ExponentialLR(LRScheduler):
    """The rate times ``gamma`` at each step: ``base * gamma ^ epoch``.

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

    def get_lr(self) -> list[float]:
        return self._rates() if self._is_initial else [rate * self.gamma for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        return base * power(self.gamma, epoch)


class PolynomialLR(LRScheduler):
    """``base * (1 - epoch / total_iters) ^ power``, 0 from ``total_iters`` on.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=2)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        _at_least(1, total_iters=total_iters)
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        now, before = 1.0 - self.last_epoch / self.total_iters, 1.0 - (self.last_epoch - 1) / self.total_iters
        return [rate * power(now / before, self.power) for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        return base * power(1.0 - min(self.total_iters, epoch) / self.total_iters, self.power)


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
        _at_least(1, T_max=T_max)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the bottom there is no ratio
            rise = 1 - cosine(math.pi / self.T_max)
            return [
                rate + (base - self.eta_min) * rise / 2 for base, rate in zip(self.base_lrs, self._rates(), strict=True)
            ]
        now, before = (1 + cosine(math.pi * e / self.T_max) for e in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._rates()]

    def _rate(self, base: float, epoch: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + cosine(math.pi * epoch / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """``eta_min + (base - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2``: ``T_cur`` epochs since the last restart, which
    is ``T_i`` after the one before; ``T_i`` is ``T_0`` at first, then each time ``T_mult`` times as long.

    Raises:
        TypeError, ValueError: ``T_0`` or ``T_mult`` is no integer of 1 or more.

    Source: Loshchilov and Hutter, ICLR 2017.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [1.0]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _at_least(1, T_0=T_0, T_mult=T_mult)
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = 1 + cosine(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to ``epoch``, which may be a fraction.

        Raises:
            ValueError: ``epoch`` is below 0.
        """
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            self.base_lrs.append(group.setdefault("initial_lr", group["lr"]))
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur = self.T_cur % self.T_i
                self.T_i = self.T_i * self.T_mult
        else:
            _at_least(0.0, epoch=epoch)
            start, self.T_i = 0, self.T_0
            if self.T_mult == 1:
                start = epoch // self.T_0 * self.T_0  # type: ignore[assignment]
            else:
                while epoch >= start + self.T_i:
                    start, self.T_i = start + self.T_i, self.T_i * self.T_mult
            self.T_cur = epoch - start
        self._go_to(math.floor(epoch))


class _Cycle(LRScheduler):
    """A schedule that turns the momentum, or the first beta, the other way."""

    cycle_momentum: bool

    def _start_momentum(self, low: Any, high: Any, last_epoch: int) -> None:
        if not self.cycle_momentum:
            return
        optimizer = self.optimizer
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError(
                f"cycle_momentum: got True; may be False, as {type(optimizer).__name__} has neither momentum nor betas"
            )
        lows, highs = _each("base_momentum", low, optimizer), _each("max_momentum", high, optimizer)
        for group, base, top in zip(optimizer.param_groups, lows, highs, strict=True):
            if last_epoch == -1:
                group["base_momentum"], group["max_momentum"] = base, top
                _put_momentum(group, top)

    def _keep_groups(self) -> None:
        if len(self.base_lrs) != len(self.optimizer.param_groups):
            raise ValueError(f"{type(self).__name__}: a group was added; make the schedule after add_param_group")

    def step(self) -> None:
        """Go to the next step and set its rates and momentums.

        Raises:
            ValueError: a group was added; the step has not changed then.
        """
        self._keep_groups()
        super().step()


def _put_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class CyclicLR(_Cycle):
    """From ``base_lr`` up to ``max_lr`` in ``step_size_up`` steps, and down again in ``step_size_down``; momentum the
    other way. The height of a cycle is the same (``triangular``), halves each time (``triangular2``), falls with
    ``gamma ^ step`` (``exp_range``), or is ``scale_fn`` of the cycle or of the step (``scale_mode``).

    Args:
        optimizer: whose rates change.
        base_lr: the lowest rate, or one for each group.
        max_lr: the highest, likewise.
        step_size_up: steps up.
        step_size_down: steps down; as many as up if None.
        mode: ``triangular``, ``triangular2`` or ``exp_range``.
        gamma: for ``exp_range``.
        scale_fn: a function that stands for ``mode``.
        scale_mode: whether ``scale_fn`` takes the ``cycle`` or the ``iterations``.
        cycle_momentum: whether momentum (``betas[0]`` of Adam's kin) changes, too.
        base_momentum: the lowest momentum, or one for each group.
        max_momentum: the highest, likewise.
        last_epoch: the step to go on from, -1 to begin.

    Raises:
        ValueError: another mode; an optimiser without momentum, and ``cycle_momentum``.

    Source: Smith, WACV 2017.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0, momentum=0.9)
        >>> schedule = lucid.optim.lr_scheduler.CyclicLR(optimizer, base_lr=1.0, max_lr=2.0, step_size_up=2)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [1.5]
    """

    _not_saved = "optimizer", "scale_fn"

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = _optimizer(type(self), optimizer)
        known = {"triangular": "cycle", "triangular2": "cycle", "exp_range": "iterations"}
        if scale_fn is None and mode not in known:
            raise ValueError(f"mode: got {mode!r}; may be {', '.join(known)}, or give scale_fn")
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"scale_mode: got {scale_mode!r}; may be cycle or iterations")
        down = step_size_up if step_size_down is None else step_size_down
        _at_least(1, step_size_up=step_size_up, step_size_down=down)
        base_lrs = _each("base_lr", base_lr, optimizer)
        self.max_lrs = _each("max_lr", max_lr, optimizer)
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else known[mode]
        self.cycle_momentum = cycle_momentum
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = rate
        self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _height(self, x: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(x)
        if self.mode == "triangular2":
            return 1 / power(2.0, x - 1)
        return power(self.gamma, x) if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height = self._height(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                low, high = group["base_momentum"], group["max_momentum"]
                _put_momentum(group, high - (high - low) * part * height)
        return [low + (high - low) * part * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


class OneCycleLR(_Cycle):
    """From ``max_lr / div_factor`` up to ``max_lr`` in the first ``pct_start`` of the steps, then down to the first
    rate over ``final_div_factor``; momentum the other way. ``three_phase``: down as long as up, then to the end.

    Args:
        optimizer: whose rates change.
        max_lr: the highest rate, or one for each group.
        total_steps: how many steps there are; or ``epochs`` times ``steps_per_epoch``.
        epochs: see there.
        steps_per_epoch: see there.
        pct_start: the part of the steps that goes up.
        anneal_strategy: ``cos``, half a wave, or ``linear``.
        cycle_momentum: whether momentum (``betas[0]`` of Adam's kin) changes, too.
        base_momentum: the lowest momentum, or one for each group.
        max_momentum: the highest, likewise.
        div_factor: what the first rate is divided by.
        final_div_factor: what the last one is divided by.
        three_phase: see above.
        last_epoch: the step to go on from, -1 to begin.

    Raises:
        ValueError: no number of steps; a step beyond the last; an optimiser without momentum, and ``cycle_momentum``.

    Source: Smith and Topin, arXiv 1708.07120 (2017).

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0, momentum=0.9)
        >>> schedule = lucid.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
        >>> schedule.step()
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = _optimizer(type(self), optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("total_steps: got None; may be a number, or give epochs and steps_per_epoch")
            _at_least(1, epochs=epochs, steps_per_epoch=steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _at_least(1, total_steps=total_steps)
        _between(0.0, 1.0, pct_start=pct_start)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy: got {anneal_strategy!r}; may be cos or linear")
        self.total_steps, self.cycle_momentum = total_steps, cycle_momentum
        self.anneal_strategy = anneal_strategy
        self.ends = [float(pct_start * total_steps) - 1, float(total_steps - 1)]
        if three_phase:
            self.ends.insert(1, float(2 * pct_start * total_steps) - 2)
        if last_epoch == -1:
            for group, top in zip(optimizer.param_groups, _each("max_lr", max_lr, optimizer), strict=True):
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (cosine(math.pi * part) + 1)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"step: got the step {self.last_epoch}; the cycle has {self.total_steps} (total_steps)")
        phase = next((i for i, end in enumerate(self.ends) if self.last_epoch <= end), len(self.ends) - 1)
        start = 0.0 if phase == 0 else self.ends[phase - 1]
        length = self.ends[phase] - start
        part = (self.last_epoch - start) / length if length else 1.0
        turns = ["initial_lr", "max_lr", "initial_lr", "min_lr"]
        if len(self.ends) == 2:
            del turns[2]
        swing = "max_momentum", "base_momentum", "max_momentum", "max_momentum"
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                _put_momentum(group, self._anneal(group[swing[phase]], group[swing[phase + 1]], part))
        return [
            self._anneal(group[turns[phase]], group[turns[phase + 1]], part) for group in self.optimizer.param_groups
        ]


class ReduceLROnPlateau(LRScheduler):
    """The rate times ``factor`` where a value has not got better for more than ``patience`` epochs.

    Args:
        optimizer: whose rates change.
        mode: whether better is less (``min``) or more (``max``).
        factor: by what a rate is multiplied, below 1.
        patience: epochs without betterment that are allowed.
        threshold: by how much a value has to be better than the best.
        threshold_mode: whether that is a part of the best (``rel``) or a difference (``abs``).
        cooldown: epochs after a reduction that do not count.
        min_lr: the lowest rate, or one for each group.
        eps: a smaller change of a rate is left out.

    Raises:
        ValueError: a factor of 1 or more; another mode.

    Example:
        >>> import lucid
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = lucid.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        >>> for loss in (2.0, 2.0):
        ...     schedule.step(loss)
        >>> schedule.get_last_lr()
        [0.5]
    """

    _must_hold = "best", "last_epoch"

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.optimizer = _optimizer(type(self), optimizer)
        if factor >= 1.0:
            raise ValueError(f"factor: got {factor}; may be below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"mode: got {mode!r}; may be min or max")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode: got {threshold_mode!r}; may be rel or abs")
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.min_lrs = _each("min_lr", min_lr, optimizer)
        self._of_all = not isinstance(min_lr, list | tuple)
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self._last_lr = self._rates()

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs do not count now."""
        return self.cooldown_counter > 0

    def is_better(self, value: float) -> bool:
        """Whether ``value`` is better than the best by the threshold."""
        sign = -1.0 if self.mode == "min" else 1.0
        relative = self.threshold_mode == "rel"
        bound = self.best * (1.0 + sign * self.threshold) if relative else self.best + sign * self.threshold
        return value < bound if self.mode == "min" else value > bound

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take the value of an epoch, a number or a tensor of one.

        Raises:
            ValueError: a group was added, and each group has a lowest rate of its own.
        """
        groups = self.optimizer.param_groups
        if self._of_all:
            self.min_lrs += self.min_lrs[:1] * (len(groups) - len(self.min_lrs))
        elif len(self.min_lrs) != len(groups):
            raise ValueError(f"min_lr: got {len(self.min_lrs)} numbers; the optimizer has {len(groups)} groups")
        value = float(metrics)
        self.last_epoch += 1
        better = self.is_better(value)
        self.best = value if better else self.best
        self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(groups, self.min_lrs, strict=True):
                rate = max(float(group["lr"]) * self.factor, least)
                if float(group["lr"]) - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()


class _OfSchedules(LRScheduler):
    """A schedule of schedules of one optimiser."""

    _not_saved = "optimizer", "_schedulers"
    _must_hold = "_schedulers", "rates"

    def _check(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None, *refused: type) -> Optimizer:
        if not schedulers:
            raise ValueError("schedulers: got none; must be at least one schedule")
        for each in schedulers:
            if not isinstance(each, LRScheduler):
                raise TypeError(f"schedulers: got {type(each).__name__}; must be schedules")
            if isinstance(each, (ReduceLROnPlateau, *refused)):
                raise ValueError(f"schedulers: got {type(each).__name__}; may be schedules by the number of the step")
            if each.optimizer is not (optimizer or schedulers[0].optimizer):
                raise ValueError("schedulers: got schedules of several optimizers; must be of one")
        return schedulers[0].optimizer

    def state_dict(self) -> dict[str, Any]:
        """The states of the schedules, the step, and the rates now; ``lucid.save`` can write it."""
        return {**super().state_dict(), "_schedulers": [each.state_dict() for each in self._schedulers]}

    _schedulers: list[LRScheduler]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, and set the rates of then.

        Raises:
            ValueError: another number of groups or of schedules, or something else than a state.
        """
        states = state_dict.get("_schedulers") if isinstance(state_dict, Mapping) else None
        if states is not None and len(states) != len(self._schedulers):
            raise ValueError(f"state_dict: has {len(states)} schedules; must have {len(self._schedulers)}")
        super().load_state_dict(state_dict)
        for each, state in zip(self._schedulers, states or (), strict=True):
            each.load_state_dict(state)


class SequentialLR(_OfSchedules):
    """One schedule after the other: the next one begins at each milestone.

    Args:
        optimizer: whose rates change.
        schedulers: schedules of it, in order.
        milestones: the steps at which the second, the third .. begin.
        last_epoch: the step to go on from, -1 to begin.

    Raises:
        ValueError: schedules of several optimisers, one of schedules or by a value, another number of milestones.

    Example:
        >>> import lucid
        >>> from lucid.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> parts = [ConstantLR(optimizer, 0.25, 2), ExponentialLR(optimizer, 0.5)]
        >>> schedule = SequentialLR(optimizer, parts, milestones=[1])
        >>> rates = [schedule.get_last_lr()]
        >>> for _ in range(2):
        ...     schedule.step()
        ...     rates.append(schedule.get_last_lr())
        >>> rates
        [[0.25], [1.0], [0.5]]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        _optimizer(type(self), optimizer)
        self.optimizer = self._check(schedulers, optimizer, _OfSchedules)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"milestones: got {len(milestones)} for {len(schedulers)} schedules; must be one less than those"
            )
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for each in schedulers:  # take back the first step, which each has done
            each.last_epoch -= 1
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:
        """Go to the next step, of the schedule whose turn it is."""
        self.last_epoch += 1
        place = bisect_right(self._milestones, self.last_epoch)
        each = self._schedulers[place]
        if place > 0 and self._milestones[place - 1] == self.last_epoch:
            each._go_to(0, afresh=True)
        else:
            each.step()
        self._last_lr = each.get_last_lr()


class ChainedScheduler(_OfSchedules):
    """Several schedules at once: each changes, in turn, what the ones before made of the rates.

    Args:
        schedulers: schedules of one optimiser.
        optimizer: that optimiser; the first schedule's if None.

    Raises:
        ValueError: schedules of several optimisers, or one by a value.

    Example:
        >>> import lucid
        >>> from lucid.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR
        >>> optimizer = lucid.optim.SGD([lucid.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = ChainedScheduler([ConstantLR(optimizer, 0.25, 2), ExponentialLR(optimizer, 0.5)])
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.125]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = self._check(schedulers, optimizer)
        self._schedulers = list(schedulers)
        self._last_lr = self._rates()

    def step(self) -> None:
        """Go to the next step of each."""
        for each in self._schedulers:
            each.step()
        self._last_lr = self._rates()
