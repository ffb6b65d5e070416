"""Loading data: the same bits from any number of workers, errors with their place, and no process left behind."""

from __future__ import annotations

import collections
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data as torch_data
from support.loading import Failing, Noisy, Stream, bits, children, pairs, refuse, unlike

import lucid
from lucid.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)
from lucid.random import Generator

Point = collections.namedtuple("Point", "x y")


def epochs(loader: DataLoader, count: int = 2) -> list[list[Any]]:
    return [[bits(batch) for batch in loader] for _ in range(count)]


# -- the law, section 11.1 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**32 - 1, 1)])
def test_a_sample_draws_from_the_counter_that_the_law_names(seed: int, epoch: int) -> None:
    loader = DataLoader(Noisy(12), batch_size=4, shuffle=True, seed=seed)
    loader.epoch = epoch
    start = 2**63 + epoch * 2**39
    order = Generator(seed, start, 0).permutation(12).tolist()
    found = list(loader)
    assert [i for batch in found for i in batch["index"].tolist()] == order
    for place, index in enumerate(order):
        wanted = Generator(seed, start + 1 + index, 0).uniform(0.0, 1.0, 5) + float(index)
        assert bits(found[place // 4]["noise"][place % 4]) == bits(wanted)


def test_a_sample_that_comes_again_draws_anew() -> None:
    loader = DataLoader(Noisy(4), batch_size=3, sampler=[2, 2, 1, 2], seed=5)
    rows = [row for batch in loader for row in batch["noise"].numpy() - batch["index"].numpy()[:, None]]
    for row, (index, again) in zip(rows, [(2, 0), (2, 1), (1, 0), (2, 2)], strict=True):
        wanted = Generator(5, 2**63 + 1 + index, again * 2**40).uniform(0.0, 1.0, 5) + float(index)
        np.testing.assert_array_equal(row, wanted.numpy() - float(index))


def test_the_global_generator_is_left_where_it_was() -> None:
    loader = DataLoader(Noisy(6), batch_size=2, shuffle=True, seed=1)
    lucid.manual_seed(11)
    list(loader)
    iterator = iter(loader)
    next(iterator)
    assert lucid.random.get_state() == (11, 0, 0)


def test_the_seed_comes_from_a_generator() -> None:
    lucid.manual_seed(3)
    first, second = DataLoader(Noisy(9), shuffle=True), DataLoader(Noisy(9), shuffle=True)
    lucid.manual_seed(3)
    again = DataLoader(Noisy(9), shuffle=True)
    assert first.seed == again.seed != second.seed
    assert DataLoader(Noisy(9), generator=Generator(3)).seed == first.seed


# -- the same bits -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> list[list[Any]]:
    return epochs(DataLoader(Noisy(23, 700), batch_size=4, shuffle=True, seed=9))


@pytest.mark.parametrize(
    ("workers", "more"),
    [
        (1, {}),
        (4, {"prefetch_factor": 1, "worker_init_fn": unlike}),
        (2, {"multiprocessing_context": "fork", "prefetch_factor": 3}),
        (3, {"persistent_workers": True}),
        pytest.param(2, {"multiprocessing_context": "spawn"}, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_workers_gives_the_same_bits(alone: list[list[Any]], workers: int, more: dict[str, Any]) -> None:
    loader = DataLoader(Noisy(23, 700), batch_size=4, shuffle=True, seed=9, num_workers=workers, **more)
    assert epochs(loader) == alone
    assert len(loader) == len(alone[0]) == 6
    assert alone[0] != alone[1]
    assert bool(children()) == loader.persistent_workers
    del loader
    assert not children()


def test_batches_larger_and_smaller_than_the_one_before() -> None:
    """The shared memory of a slot grows, and what it held is not seen again."""
    sizes = [[0], list(range(9)), [3, 4], list(range(20)), [1]]
    data = Noisy(20, 3000)
    wanted = [bits(batch) for batch in DataLoader(data, batch_sampler=sizes, seed=0)]
    kept = list(DataLoader(data, batch_sampler=sizes, seed=0, num_workers=1, prefetch_factor=1))
    assert [bits(batch) for batch in kept] == wanted


@pytest.mark.parametrize("prefetch", [1, 3])
def test_batches_that_are_kept_keep_their_values(prefetch: int) -> None:
    """A slot is written again only when the last array in it is gone, a view of a view of it too."""
    wanted = [bits(batch) for batch in DataLoader(Noisy(40, 2000), 2, seed=0)]
    loader = DataLoader(
        Noisy(40, 2000), 2, seed=0, num_workers=2, prefetch_factor=prefetch, multiprocessing_context="fork"
    )
    kept, views = [], []
    for number, batch in enumerate(loader):
        if number % 4 < 2:  # and the others are gone
            kept.append((number, batch))
        elif number % 4 == 2:
            views.append((number, batch["noise"][1].numpy()[3:]))
    assert [bits(batch) for _, batch in kept] == [wanted[number] for number, _ in kept]
    whole = [batch["noise"].numpy() for batch in DataLoader(Noisy(40, 2000), 2, seed=0)]
    assert all(np.array_equal(view, whole[number][1, 3:]) for number, view in views)
    kept[0][1]["noise"].numpy()[:] = 0  # what has come may be written


def test_memory_is_used_again() -> None:
    places = set()
    loader = DataLoader(Noisy(80, 2000), 2, seed=0, num_workers=1, prefetch_factor=1, multiprocessing_context="fork")
    for batch in loader:
        places.add(batch["noise"].numpy().ctypes.data)
        del batch
    assert len(places) <= 3


@pytest.mark.parametrize("workers", [0, 2])
def test_streams(workers: int) -> None:
    def run(drop_last: bool, batch_size: int | None = 5) -> list[Any]:
        more = {"num_workers": workers, "drop_last": drop_last} if batch_size else {"num_workers": workers}
        return epochs(DataLoader(Stream(13), batch_size, seed=4, **more), 1)[0]

    whole = run(False)
    assert [batch[1] for batch in whole] == [(5, 2), (5, 2), (3, 2)]
    assert run(True) == whole[:2]
    rows = [7 + Generator(4, 2**63 + 1 + 7, 0).uniform(0.0, 1.0, 2)]
    assert bits(rows[0])[2] == whole[1][2][2 * 8 : 3 * 8]
    alone = run(False, None)
    assert len(alone) == 13
    assert alone[7] == bits(rows[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("data", [Noisy(20), Stream(20)])
def test_it_goes_on_where_it_was(workers: int, data: Any) -> None:
    def make() -> DataLoader:
        more = {"shuffle": True} if isinstance(data, Noisy) else {}
        return DataLoader(data, batch_size=3, num_workers=workers, seed=2, **more)

    whole = epochs(make(), 3)
    loader = make()
    list(loader)
    states = []
    for _ in loader:
        states.append(loader.state_dict())
    assert states[3] == {"seed": 2, "epoch": 1, "batches": 4}
    assert (states[-1] == {"seed": 2, "epoch": 2, "batches": 0}) == isinstance(data, Noisy)  # whose length is known
    assert loader.state_dict() == {"seed": 2, "epoch": 2, "batches": 0}
    other = DataLoader(
        data, batch_size=3, num_workers=workers, **({"shuffle": True} if isinstance(data, Noisy) else {})
    )
    other.load_state_dict(states[3])
    assert other.state_dict() == states[3]
    assert epochs(other) == [whole[1][4:], whole[2]]
    with pytest.raises(ValueError, match="entries"):
        other.load_state_dict({"seed": 1})


def test_a_break_leaves_the_next_epoch_whole() -> None:
    wanted = epochs(DataLoader(Noisy(23), batch_size=2, shuffle=True, seed=9))
    for persistent in (False, True):
        loader = DataLoader(Noisy(23), batch_size=2, shuffle=True, seed=9, num_workers=2, persistent_workers=persistent)
        for place, _ in enumerate(loader):
            if place == 2:
                break
        assert bool(children()) == persistent
        assert loader.state_dict() == {"seed": 9, "epoch": 0, "batches": 3}
        assert epochs(loader, 1) == wanted[1:]
    del loader
    assert not children()


def test_a_second_iteration_takes_persistent_workers() -> None:
    loader = DataLoader(Noisy(12), batch_size=2, num_workers=1, persistent_workers=True)
    first, second = iter(loader), iter(loader)
    assert len(list(second)) == 6
    with pytest.raises(RuntimeError, match="another iteration"):
        next(first)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_with_its_sample(workers: int) -> None:
    loader = DataLoader(Failing(12, 7, "raise"), batch_size=2, num_workers=workers)
    got = []
    with pytest.raises(KeyError, match="no such file") as caught:
        got.extend(loader)
    assert "sample 7 " in caught.value.__notes__[0]
    if workers:
        assert "in worker 1:" in str(caught.value.__cause__)
        assert "__getitem__" in str(caught.value.__cause__)
    assert not children()


def test_an_error_that_cannot_be_pickled() -> None:
    with pytest.raises(RuntimeError, match=r"in worker 0:[\s\S]*Local: only here[\s\S]*sample 1 "):
        list(DataLoader(Failing(4, 1, "local"), num_workers=1, batch_size=2))


def test_an_error_of_the_collate_function() -> None:
    with pytest.raises(TypeError) as caught:
        list(DataLoader([1, object()], batch_size=2))
    assert "[0, 1]" in caught.value.__notes__[0]


def test_a_worker_that_dies() -> None:
    with pytest.raises(RuntimeError, match=r"worker 0 \(process \d+\) ended with exit status 3"):
        list(DataLoader(Failing(4, 0, "exit"), num_workers=2))
    loader = DataLoader(Noisy(40), num_workers=2, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="killed by signal 9"):
        list(iterator)
    assert not children()
    assert len(list(loader)) == 40  # with new workers


def test_a_worker_that_takes_too_long() -> None:
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"worker 0 has not loaded its batch within 1"):
        list(DataLoader(Failing(4, 0, "sleep"), num_workers=1, timeout=1))
    assert time.monotonic() - start < 30
    assert not children()


def test_workers_that_do_not_start() -> None:
    with pytest.raises(OSError, match="does not start"):
        list(DataLoader(Noisy(4), num_workers=1, worker_init_fn=refuse))
    options = {"num_workers": 1, "collate_fn": lambda samples: samples}
    with pytest.raises(TypeError, match="cannot be sent to worker processes"):
        list(DataLoader(Noisy(4), multiprocessing_context="forkserver", **options))
    assert list(DataLoader(Noisy(4), multiprocessing_context="fork", **options))


def run_script(folder: Path, body: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(body))
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
    )


ENDLESS = """
    import signal
    import time
    from support.loading import Failing
    from lucid.data import DataLoader

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
        iterator = iter(DataLoader(Failing(100, 9, "sleep"), num_workers=3, multiprocessing_context={context!r}))
        next(iterator)
        print(*iterator._pool.pids, flush=True)
        list(iterator)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("context", "number"), [("forkserver", signal.SIGINT), ("fork", signal.SIGINT), (None, signal.SIGKILL)]
)
def test_no_process_is_left(tmp_path: Path, context: str | None, number: signal.Signals) -> None:
    """Nor after Ctrl-C, nor when the process that started them is killed."""
    with run_script(tmp_path, ENDLESS.format(context=context)) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(alive, pids))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT), errors
    deadline = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_a_script_without_its_guard(tmp_path: Path) -> None:
    body = """
        from lucid.data import DataLoader
        list(DataLoader(range(4), num_workers=1, multiprocessing_context="forkserver"))
    """
    with run_script(tmp_path, body) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "`if __name__ == '__main__':`" in errors.splitlines()[-1], errors


def test_the_usual_way_to_start(tmp_path: Path) -> None:
    """A fork where nothing speaks against it; the fork server, which loads once what a script imports."""
    (tmp_path / "heavy.py").write_text("with open('loaded', 'a') as file:\n    file.write('x')\n")
    body = """
        import threading
        import heavy
        from lucid.data import DataLoader

        if __name__ == "__main__":
            print(list(DataLoader(range(6), collate_fn=lambda samples: sum(samples), num_workers=2)))
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            for _ in range(2):
                print([batch.tolist() for batch in DataLoader(range(4), batch_size=2, num_workers=2)])
    """
    with run_script(tmp_path, body) as process:
        output, errors = process.communicate(timeout=60)
    assert (output.splitlines(), errors) == (["[0, 1, 2, 3, 4, 5]", *["[[0, 1], [2, 3]]"] * 2], "")
    assert (tmp_path / "loaded").read_text() == "xx"  # the script and the server


class Torches:
    """Samples by what PyTorch shares among its threads, where it has any."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> np.ndarray:
        return torch.ones(300, 300).matmul(torch.ones(300, 300)).exp().sum(0).numpy()


def test_a_fork_after_pytorchs_threads() -> None:
    """They are not there in the fork, which must not wait for them."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        wanted = [bits(batch) for batch in DataLoader(Torches())]
        loader = DataLoader(Torches(), num_workers=1, timeout=60, multiprocessing_context="fork")
        assert [bits(batch) for batch in loader] == wanted
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"prefetch_factor": 2}, "need num_workers"),
        ({"persistent_workers": True}, "need num_workers"),
        ({"timeout": -1, "num_workers": 1}, "timeout"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor"),
        ({"shuffle": True, "sampler": [0]}, "shuffle"),
        ({"batch_sampler": [[0]], "drop_last": True}, "drop_last"),
        ({"batch_size": None, "drop_last": True}, "drop_last"),
        ({"seed": 1, "generator": Generator(1)}, "give one"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(Noisy(4), **arguments)
    with pytest.raises(ValueError, match="own order"):
        DataLoader(Stream(4), shuffle=True)
    with pytest.raises(ValueError, match="multiprocessing_context"):
        iter(DataLoader(Noisy(4), num_workers=1, multiprocessing_context="green threads"))


# -- collating, beside PyTorch -----------------------------------------------------------------------------------------

SAMPLES = [
    [1, 2],
    [1.5, 2.5],
    [True, False],
    [np.float32(1), np.float32(2)],
    [np.arange(3, dtype=np.uint8), np.arange(3, 6, dtype=np.uint8)],
    [np.zeros((0, 2)), np.zeros((0, 2))],
    [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
    [(1, [2.0, "z"]), (3, [4.0, "w"])],
    [Point(1, 2.0), Point(3, 4.0)],
    ["ab", "c"],
]


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | lucid.Tensor):
        array = np.asarray(value.numpy())
        return str(array.dtype), array.shape, array.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(*map(plain, value)) if hasattr(value, "_fields") else [plain(part) for part in value]
    return value


@pytest.mark.parametrize("samples", SAMPLES, ids=repr)
def test_batches_are_those_of_pytorch(samples: list[Any]) -> None:
    assert plain(default_collate(samples)) == plain(torch_data.default_collate(samples))


def test_tensors_are_collated_where_they_are(gpu: str) -> None:
    assert default_collate([lucid.ones(2, device=gpu), lucid.zeros(2, device=gpu)]).device == gpu
    assert default_collate([lucid.ones(2), lucid.zeros(2)]).device == "cpu"


def test_tensors_that_need_gradients_are_stacked() -> None:
    x = lucid.ones(2, requires_grad=True)
    default_collate([x, x * 2.0]).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([np.zeros(2), np.zeros(3)], ValueError, r"\(2,\) and \(3,\)"),
        ([np.zeros(2), np.zeros(2, np.float32)], TypeError, "float64 and float32"),
        ([lucid.zeros(2), 1.0], TypeError, "Tensor and float"),
        ([(1, 2), (1,)], ValueError, "parts"),
        ([object()], TypeError, "collate_fn"),
    ],
)
def test_samples_that_are_not_alike(samples: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        default_collate(samples)


def test_a_collate_function_and_no_batches() -> None:
    assert list(DataLoader(Noisy(5), batch_size=2, collate_fn=pairs)) == [[0, 1], [2, 3], [4]]
    [first, *_] = DataLoader(Noisy(3), batch_size=None)
    assert first["noise"].shape == (5,)
    assert first["index"] == 0
    assert isinstance(first["pair"][1], lucid.Tensor)


# -- datasets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tensor_dataset_in_one_step_is_as_sample_by_sample(workers: int) -> None:
    x, y = np.random.default_rng(0).normal(size=(11, 2, 3)).astype(np.float32), np.arange(11)
    data = TensorDataset(x, lucid.tensor(y))
    found = [bits(batch) for batch in DataLoader(data, batch_size=4, shuffle=True, seed=3, num_workers=workers)]
    slow = DataLoader(Subset(data, range(11)), batch_size=4, shuffle=True, seed=3)
    assert found == [bits(batch) for batch in slow]
    with pytest.raises(IndexError) as caught:
        list(DataLoader(data, batch_sampler=[[0, 99]], num_workers=workers))
    assert "sample 99 " in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="same length"):
        TensorDataset(x, y[:3])


def test_datasets_joined_and_cut() -> None:
    data = ConcatDataset([range(3), [], range(10, 14)])
    wanted = torch_data.ConcatDataset([list(range(3)), [7][1:] or [], list(range(10, 14))])  # type: ignore[list-item]
    assert [data[i] for i in range(-7, 7)] == [wanted[i] for i in range(-7, 7)]
    for index in (7, -8):
        with pytest.raises(IndexError, match=str(index)):
            data[index]
    with pytest.raises(ValueError, match="none"):
        ConcatDataset([])
    assert list((Noisy(2) + Noisy(1))[2]) == list(Noisy(1)[0])
    assert Subset("abc", [2, 0])[1] == "a"


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [([7, 3], [7, 3]), ([0.5, 0.5], [5, 5]), ([1 / 3, 1 / 3, 1 / 3], [4, 3, 3]), ([0, 10], [0, 10])],
)
def test_random_split(lengths: list[float], counts: list[int]) -> None:
    parts = random_split(range(10), lengths, Generator(1))
    assert [len(part) for part in parts] == counts
    assert [x for part in parts for x in part] == Generator(1).permutation(10).tolist()
    for wrong in ([5, 6], [0.5, 0.4], [11, -1]):
        with pytest.raises(ValueError, match="lengths"):
            random_split(range(10), wrong)


# -- samplers ----------------------------------------------------------------------------------------------------------


def test_samplers() -> None:
    data = range(10)
    assert list(SequentialSampler(data)) == list(data)
    assert list(RandomSampler(data, generator=Generator(2))) == Generator(2).permutation(10).tolist()
    longer = list(RandomSampler(data, num_samples=25, generator=Generator(2)))
    assert sorted(longer[:10]) == sorted(longer[10:20]) == list(data)
    assert len(set(longer[20:])) == 5
    drawn = RandomSampler(data, replacement=True, num_samples=500, generator=Generator(2))
    assert set(drawn) == set(data)
    assert len(drawn) == 500
    assert sorted(SubsetRandomSampler([5, 1, 9], Generator(0))) == [1, 5, 9]
    for size, drop in ((3, False), (3, True), (10, False), (11, True)):
        batches = BatchSampler(SequentialSampler(data), size, drop)
        assert list(batches) == list(torch_data.BatchSampler(torch_data.SequentialSampler(data), size, drop))  # type: ignore[arg-type]
        assert len(batches) == len(list(batches))
    with pytest.raises(ValueError, match="num_samples"):
        RandomSampler(data, num_samples=0)
    with pytest.raises(ValueError, match="no samples"):
        RandomSampler([], num_samples=2)
    assert list(RandomSampler([])) == []


def test_weighted_draws() -> None:
    weights = [0.0, 1.0, 3.0, 0.0, 6.0, 0.0]
    drawn = list(WeightedRandomSampler(weights, 20000, generator=Generator(6)))
    shares = [drawn.count(index) / 20000 for index in range(6)]
    for share, weight in zip(shares, weights, strict=True):  # five standard deviations
        assert abs(share - weight / 10) <= 5 * math.sqrt(weight / 10 * (1 - weight / 10) / 20000)
    firsts = [next(iter(WeightedRandomSampler(weights, 3, False, Generator(seed)))) for seed in range(2000)]
    for index, weight in enumerate(weights):
        assert abs(firsts.count(index) / 2000 - weight / 10) <= 5 * math.sqrt(weight / 10 * (1 - weight / 10) / 2000)
    assert sorted(WeightedRandomSampler(weights, 3, False)) == [1, 2, 4]
    for wrong in ([-1.0, 2.0], [0.0], [math.inf], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="weights"):
            WeightedRandomSampler(wrong, 1)
    with pytest.raises(ValueError, match="1 to 3"):
        WeightedRandomSampler(weights, 4, replacement=False)


def test_a_loader_with_workers_can_follow_threads() -> None:
    """lucid's own threads run before the fork, and in the worker after it."""
    with lucid_threads(2):
        lucid.randn(64, 512, 64).sum()
        found = list(DataLoader(Noisy(6, 70000), batch_size=2, seed=1, num_workers=2, multiprocessing_context="fork"))
    assert [bits(b) for b in found] == [bits(b) for b in DataLoader(Noisy(6, 70000), batch_size=2, seed=1)]


class lucid_threads:  # noqa: N801
    def __init__(self, count: int) -> None:
        self.count, self.before = count, lucid.get_num_threads()

    def __enter__(self) -> None:
        lucid.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        lucid.set_num_threads(self.before)


def test_what_goes_to_workers_can_be_pickled() -> None:
    data = TensorDataset(lucid.tensor([1.0, 2.0]))
    assert bits(list(pickle.loads(pickle.dumps(data))[1])) == bits(list(data[1]))
