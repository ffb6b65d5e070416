"""Text, as arrays of ``str`` on the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lucid.onnx._importer import Call, imports

_Array = np.ndarray[Any, Any]


def _texts(values: Sequence[Any], shape: Sequence[int]) -> _Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made.reshape(tuple(shape))


@imports("StringConcat", host=None)
def _import_concat(call: Call, x: _Array, y: _Array) -> _Array:
    return np.asarray(np.add(x, y, dtype=object), object)


@imports("StringSplit", host=None)
def _import_split(call: Call, x: _Array) -> tuple[_Array, _Array]:
    """The parts of each text along a new last axis, with empty texts behind them; and how many there are."""
    most = -1 if call["maxsplit"] is None else call["maxsplit"]
    parts = [text.split(call["delimiter"] or None, most) for text in x.ravel()]
    width = max(map(len, parts), default=0)
    padded = [part for each in parts for part in (*each, *[""] * (width - len(each)))]
    return _texts(padded, (*x.shape, width)), np.array([len(each) for each in parts], np.int64).reshape(x.shape)


@imports("StringNormalizer", host=None)
def _import_normalize(call: Call, x: _Array) -> _Array:
    """Without the words that are to be dropped, in another case; one empty text, where nothing is left."""
    if x.ndim not in (1, 2) or (x.ndim == 2 and len(x) != 1):
        raise call.refuse(f"got a value of shape {x.shape}; must be [C] or [1, C]")
    changes: dict[str, Callable[[str], str]] = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}
    change = changes[call["case_change_action"]]
    key: Callable[[str], str] = str if call["is_case_sensitive"] else str.lower
    dropped = {key(word) for word in call["stopwords"] or ()}
    kept = [change(text) for text in x.ravel() if key(text) not in dropped] or [""]
    return _texts(kept, (len(kept),) if x.ndim == 1 else (1, len(kept)))


@imports("RegexFullMatch", host=None)
def _import_match(call: Call, x: _Array) -> _Array:
    """By Python's regular expressions, which have what RE2's syntax has."""
    try:
        pattern = re.compile(call["pattern"] or "")
    except re.error as error:
        raise call.refuse(f"pattern: {call['pattern']!r} is no regular expression: {error}") from None
    found = [pattern.fullmatch(text) is not None for text in x.ravel()]
    return np.array(found, np.bool_).reshape(x.shape)


@imports("TfIdfVectorizer", host=None)
def _import_tf_idf(call: Call, x: _Array) -> _Array:
    """How often each n-gram is in a row (TF), whether it is, times its weight (IDF), or the product (TFIDF)."""
    pool = call["pool_strings"] if call["pool_int64s"] is None else call["pool_int64s"]
    places = _pool(pool or [], call["ngram_counts"])
    indexes, weights = call["ngram_indexes"], call["weights"]
    if len(places) > len(indexes) or x.ndim > 2:
        raise call.refuse(f"got a value of shape {x.shape}, {len(places)} n-grams and {len(indexes)} indexes of them")
    rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    counts = np.zeros((len(rows), max(indexes) + 1), np.float32)
    scales = np.ones(counts.shape[1], np.float32)
    if weights is not None:
        scales[indexes] = weights
    sizes = range(call["min_gram_length"], call["max_gram_length"] + 1)
    for row, count in zip(rows.tolist(), counts, strict=True):
        for gram in _grams(row, sizes, call["max_skip_count"]):
            if gram in places:
                count[indexes[places[gram]]] += 1
    made = np.minimum(counts, 1) if call["mode"] == "IDF" else counts
    made = made if call["mode"] == "TF" else made * scales
    return made if x.ndim == 2 else made[0]


def _pool(pool: Sequence[Any], starts: Sequence[int]) -> dict[tuple[Any, ...], int]:
    """The number of each n-gram; those of one element come first in the pool, then those of two .."""
    numbers: dict[tuple[Any, ...], int] = {}
    count = 0
    for size, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        for first in range(start, end - size + 1, size):
            numbers[tuple(pool[first : first + size])] = count
            count += 1
    return numbers


def _grams(row: Sequence[Any], sizes: range, skips: int) -> Iterator[tuple[Any, ...]]:
    """Every n-gram of the row, with up to ``skips`` elements left out between two; one element alone but once."""
    for step in range(1, skips + 2):
        for size in sizes:
            if size == 1 and step > 1:
                continue
            for first in range(len(row) - step * (size - 1)):
                yield tuple(row[first : first + step * size : step][:size])
