"""Classical models and features: the domain ``ai.onnx.ml``.

Sums and products are float64, rounded once at the end. What decides, looks up or makes text runs on the host.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.onnx._importer import Call, Value, imports
from lucid.onnx._types import TEXT, as_array

DOMAIN = "ai.onnx.ml"
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")

Labels = list[Any]


def _wide(x: Tensor) -> Tensor:
    return x.astype(np.float64)


def _numbers(call: Call, attribute: str, like: Tensor) -> Tensor:
    """An attribute's numbers in float64, where ``like`` lies."""
    return as_tensor(np.asarray(call[attribute], np.float64), device=like.device)


def _floats(call: Call, attribute: str) -> np.ndarray:
    """Numbers that are given as such, or as a tensor."""
    tensor = call[f"{attribute}_as_tensor"]
    return np.asarray(call[attribute] or [], np.float32) if tensor is None else tensor


# -- what comes after the scores -------------------------------------------------------------------------------------


def _transformed(call: Call, scores: Tensor) -> Tensor:
    """``post_transform`` of scores ``(N, classes)``."""
    kind = call["post_transform"] or "NONE"
    kind = _TRANSFORMS[kind] if isinstance(kind, int) and 0 <= kind < len(_TRANSFORMS) else kind
    if kind == "SOFTMAX":
        return ops.softmax(scores, 1)
    if kind == "LOGISTIC":
        return ops.sigmoid(scores)
    if kind == "SOFTMAX_ZERO":
        largest = ops.max(scores, 1, keepdims=True)
        some = ops.greater(ops.abs(scores), 1e-7)
        parts = ops.where(some, ops.exp(scores - largest), scores * ops.exp(-largest))
        total = ops.sum(parts, 1, keepdims=True)
        none = ops.equal(total, 0.0)
        return ops.where(none, ops.full_like(parts, 0.5), parts / ops.where(none, ops.ones_like(total), total))
    if kind == "PROBIT":
        return _probit(scores)
    if kind != "NONE":
        raise call.refuse(f"post_transform is {kind!r}; it may be {', '.join(map(repr, _TRANSFORMS))}")
    return scores


def _probit(p: Tensor) -> Tensor:
    """The inverse of the normal distribution as ONNX's runtimes have it: Winitzki's approximation of ``erf``, 2008."""
    x = p * 2.0 - 1.0
    log = ops.log((1.0 - x) * (1.0 + x))
    v = log * 0.5 + 2.0 / (math.pi * 0.147)
    return ops.sign(x) * ops.sqrt(ops.sqrt(v * v - log * (1.0 / 0.147)) - v) * math.sqrt(2.0)


def _labels(call: Call) -> Labels:
    for attribute in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
        if call[attribute]:
            return list(call[attribute])
    return []


def _named(labels: Labels, places: Tensor) -> Value:
    """The labels at these places: a tensor of integers, or text."""
    if labels and isinstance(labels[0], str):
        return np.array(labels, object)[as_array(places)]
    return ops.take(as_tensor(np.asarray(labels, np.int64), device=places.device), places)


def _decided(call: Call, score: Tensor, labels: Labels, share: bool, least: float) -> tuple[Value, Tensor]:
    """Label and scores of both classes, from the score ``(N, 1)`` of the second; as ONNX Runtime has it.

    Args:
        call: the node.
        score: of the second class.
        labels: of both classes, or of the second.
        share: whether the score of the first is what is missing to 1, instead of the negative.
        least: above what the second is chosen.
    """
    over = ops.reshape(ops.greater(score, least).astype(np.int64), (-1,))
    if len(labels) != 2:
        labels = ["" if labels and isinstance(labels[0], str) else 0, *(labels or [1])]
    kind = call["post_transform"] or "NONE"
    if share and kind in ("NONE", "PROBIT"):
        return _named(labels, over), _transformed(call, ops.concatenate([1.0 - score, score], 1))
    return _named(labels, over), _transformed(call, ops.concatenate([-score, score], 1))


# -- linear models ---------------------------------------------------------------------------------------------------


def _linear(call: Call, x: Tensor, targets: int) -> Tensor:
    rows = x if x.ndim == 2 else ops.reshape(x, (1, -1))
    weight = ops.reshape(_numbers(call, "coefficients", x), (targets, -1))
    if weight.shape[1] != rows.shape[1]:
        raise call.refuse(f"it has {weight.shape[1]} coefficients for a target; its input has shape {x.shape}")
    y = ops.matmul(_wide(rows), ops.transpose(weight))
    return y + _numbers(call, "intercepts", x) if call["intercepts"] else y


@imports("LinearRegressor", domain=DOMAIN)
def _import_linear_regressor(call: Call, x: Tensor) -> Tensor:
    return _transformed(call, _linear(call, x, call["targets"])).astype(np.float32)


@imports("LinearClassifier", domain=DOMAIN)
def _import_linear_classifier(call: Call, x: Tensor) -> tuple[Value, Tensor]:
    labels = _labels(call)
    targets = len(call["coefficients"]) // (x.shape[-1] or 1)
    scores = _linear(call, x, targets)
    if targets == 1:
        named, scores = _decided(call, scores, labels, True, 0.0)
        return named, scores.astype(np.float32)
    named = _named(labels or list(range(targets)), ops.argmax(scores, 1))
    return named, _transformed(call, scores).astype(np.float32)


# -- support vector machines -----------------------------------------------------------------------------------------


def _kernel(call: Call, x: Tensor, vectors: Tensor, kind: str) -> Tensor:
    """Of each row of ``x`` and each vector: ``(N, vectors)``."""
    gamma, shift, degree = (*(call["kernel_params"] or []), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        apart = ops.unsqueeze(x, 1) - ops.unsqueeze(vectors, 0)
        return ops.exp(ops.sum(apart * apart, 2) * -gamma)
    product = ops.matmul(x, ops.transpose(vectors))
    if kind == "POLY":
        return ops.power(product * gamma + shift, float(int(degree)))
    if kind == "SIGMOID":
        return ops.tanh(product * gamma + shift)
    if kind != "LINEAR":
        raise call.refuse(f"kernel_type is {kind!r}; it may be 'LINEAR', 'POLY', 'RBF' or 'SIGMOID'")
    return product


@imports("SVMRegressor", domain=DOMAIN)
def _import_svm_regressor(call: Call, x: Tensor) -> Tensor:
    count, weight = call["n_supports"] or 0, _numbers(call, "coefficients", x)
    if count:
        vectors = ops.reshape(_numbers(call, "support_vectors", x), (count, -1))
        products = _kernel(call, _wide(x), vectors, call["kernel_type"])
    else:
        products = _wide(x)
    y = ops.matmul(products, ops.reshape(weight, (-1, 1))) + call["rho"][0]
    if call["one_class"]:
        y = ops.where(ops.greater(y, 0.0), ops.ones_like(y), ops.full_like(y, -1.0))
    return _transformed(call, y).astype(np.float32)


@imports("SVMClassifier", domain=DOMAIN)
def _import_svm_classifier(call: Call, x: Tensor) -> tuple[Value, Tensor]:
    """One against one by votes, with probabilities where they are given; or linear scores."""
    labels, sizes = _labels(call), list(call["vectors_per_class"] or [])
    classes = max(len(labels), 1)
    if not sum(sizes):
        vectors = ops.reshape(_numbers(call, "coefficients", x), (classes, -1))
        scores = _kernel(call, _wide(x), vectors, "LINEAR") + call["rho"][0]
        chosen = ops.argmax(scores, 1)
    else:
        pairs, votes = _duels(call, x, classes, sizes)
        probable = bool(call["prob_a"])
        scores = as_tensor(_coupled(call, as_array(pairs), classes), device=x.device) if probable else pairs
        chosen = ops.argmax(scores if probable and classes == 2 else votes, 1)
        if classes == 2 and not probable:
            positive = min(call["coefficients"]) >= 0
            chosen = ops.reshape(ops.less_equal(pairs, 0.0), (-1,)).astype(np.int64)
            scores = ops.concatenate([1.0 - pairs, pairs] if positive else [-pairs, pairs], 1)
    named = _named(labels or list(range(classes)), chosen)
    return named, _transformed(call, scores).astype(np.float32)


def _duels(call: Call, x: Tensor, classes: int, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The score of each pair of classes, positive for the first of the two; and how many pairs each class wins."""
    vectors = ops.reshape(_numbers(call, "support_vectors", x), (sum(sizes), -1))
    weight = ops.reshape(_numbers(call, "coefficients", x), (-1, sum(sizes)))
    products = _kernel(call, _wide(x), vectors, call["kernel_type"])
    ends = np.add.accumulate([0, *sizes])
    parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
    scores, wins = [], [[] for _ in range(classes)]  # type: ignore[var-annotated]
    for i in range(classes):
        for j in range(i + 1, classes):
            first = ops.matmul(products[:, parts[i]], weight[j - 1, parts[i]])
            second = ops.matmul(products[:, parts[j]], weight[i, parts[j]])
            score = first + second + call["rho"][len(scores)]
            won = ops.greater(score, 0.0).astype(np.int64)
            wins[i].append(won)
            wins[j].append(1 - won)
            scores.append(score)
    votes = [sum(each[1:], each[0]) for each in wins]
    return ops.stack(scores, 1), ops.stack(votes, 1)


def _coupled(call: Call, scores: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of classes from those of pairs (Wu, Lin and Weng, 2004, as in libsvm)."""
    found = np.empty((len(scores), classes))
    for row, values in enumerate(scores):
        pairs = np.zeros((classes, classes))
        for index, (i, j) in enumerate(zip(*np.triu_indices(classes, 1), strict=True)):
            exponent = values[index] * call["prob_a"][index] + call["prob_b"][index]
            share = 1.0 - float(ops.sigmoid(as_tensor(np.float64(exponent))).numpy())
            pairs[i, j] = min(max(share, 1e-7), 1 - 1e-7)
            pairs[j, i] = 1 - pairs[i, j]
        found[row] = _probabilities(pairs)
    return found


def _probabilities(pairs: np.ndarray) -> np.ndarray:
    count = len(pairs)
    q = -pairs.T * pairs
    np.fill_diagonal(q, (pairs**2).sum(0))
    p = np.full(count, 1.0 / count)
    for _ in range(max(100, count)):
        qp = q @ p
        total = p @ qp
        if np.abs(qp - total).max() < 0.005 / count:
            break
        for t in range(count):
            step = (total - qp[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


# -- trees -----------------------------------------------------------------------------------------------------------

_MODES: tuple[Callable[[Any, Any], Any], ...] = (
    np.less_equal,
    np.less,
    np.greater_equal,
    np.greater,
    np.equal,
    np.not_equal,
)
_OLD_MODES = {f"BRANCH_{mode}": code for code, mode in enumerate(("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))}
_MEMBER = 6


@dataclass(frozen=True, slots=True)
class _Forest:
    """Trees in one array of nodes; behind them, the leaves.

    Attributes:
        roots: of each tree.
        feature, mode, split, true, false, missing: of each node.
        members: the set of values of a node that asks for one.
        first, target, weight: what leaf ``i`` adds: ``weight[k]`` to ``target[k]``, ``first[i] <= k < first[i + 1]``.
    """

    roots: np.ndarray
    feature: np.ndarray
    mode: np.ndarray
    split: np.ndarray
    true: np.ndarray
    false: np.ndarray
    missing: np.ndarray
    first: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    members: Mapping[int, np.ndarray] = field(default_factory=dict)

    def leaves(self, call: Call, x: np.ndarray) -> np.ndarray:
        """The leaf that each row reaches in each tree."""
        nodes = len(self.mode)
        at = np.tile(self.roots, (len(x), 1))
        rows = np.broadcast_to(np.arange(len(x))[:, None], at.shape)
        for _ in range(nodes + 1):
            inner = at < nodes
            if not inner.any():
                return at - nodes
            node = at[inner]
            value = x[rows[inner], self.feature[node]]
            true = np.isnan(value) & self.missing[node]
            for code, compare in enumerate(_MODES):
                chosen = self.mode[node] == code
                true[chosen] |= compare(value[chosen], self.split[node[chosen]])
            for place in np.flatnonzero(self.mode[node] == _MEMBER):
                true[place] |= bool((self.members[int(node[place])] == value[place]).any())
            at[inner] = np.where(true, self.true[node], self.false[node])
        raise call.refuse("its nodes lead to each other in a circle")

    def scores(self, call: Call, x: np.ndarray, targets: int, how: str) -> np.ndarray:
        """What the leaves add up to, ``(rows, targets)``, in float64; tree by tree."""
        start = {"MIN": np.inf, "MAX": -np.inf}.get(how, 0.0)
        y = np.full((len(x), targets), start)
        put = {"MIN": np.minimum, "MAX": np.maximum}.get(how, np.add)
        for leaf in self.leaves(call, x).T:
            count = self.first[leaf + 1] - self.first[leaf]
            for k in range(int(count.max(initial=0))):
                rows = np.flatnonzero(k < count)
                entry = self.first[leaf[rows]] + k
                put.at(y, (rows, self.target[entry]), self.weight[entry])
        if how == "AVERAGE":
            y = y / len(self.roots)
        return np.where(np.isinf(y) & (y == start), 0.0, y) if start else y


def _prepared(call: Call, make: Callable[[Call], _Forest]) -> _Forest:
    """The node's trees, made once."""
    if "forest" not in call.attributes:
        try:
            call.attributes["forest"] = make(call)
        except (IndexError, KeyError, ValueError, TypeError) as error:
            raise call.refuse(f"its trees are not valid: {error}") from error
    return call.attributes["forest"]


def _forest(call: Call) -> _Forest:
    """Of TreeEnsemble."""
    nodes = len(call["nodes_featureids"])

    def towards(way: str) -> np.ndarray:
        return np.asarray(call[f"nodes_{way}nodeids"]) + nodes * np.asarray(call[f"nodes_{way}leafs"])

    mode = np.asarray(call["nodes_modes"], np.int64)
    true, false = towards("true"), towards("false")
    roots = np.asarray(call["tree_roots"])
    alone = (true[roots] >= nodes) & (true[roots] == false[roots])  # a tree that is a leaf
    members, values = {}, np.asarray([] if call["membership_values"] is None else call["membership_values"])
    ends = np.flatnonzero(np.isnan(values))
    for node, (start, end) in zip(
        np.flatnonzero(mode == _MEMBER), zip([0, *(ends + 1)], ends, strict=False), strict=True
    ):
        members[int(node)] = values[start:end]
    leaves = len(call["leaf_weights"])
    return _checked(
        np.where(alone, true[roots], roots),
        np.asarray(call["nodes_featureids"]),
        mode,
        np.asarray(call["nodes_splits"]),
        true,
        false,
        np.asarray(call["nodes_missing_value_tracks_true"] or [0] * nodes, bool),
        np.arange(leaves + 1),
        np.asarray(call["leaf_targetids"]),
        np.asarray(call["leaf_weights"], np.float64),
        members,
    )


def _old_forest(call: Call) -> _Forest:
    """Of TreeEnsembleRegressor and TreeEnsembleClassifier, whose nodes are named by a tree and a number."""
    kind = "class" if call.operator.endswith("Classifier") else "target"
    names = list(zip(call["nodes_treeids"], call["nodes_nodeids"], strict=True))
    modes = call["nodes_modes"]
    inner = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    outer = [i for i, mode in enumerate(modes) if mode == "LEAF"]
    place = {names[i]: at for at, i in enumerate(inner + outer)}
    roots: dict[int, int] = {}
    for tree, node in names:
        roots.setdefault(tree, place[tree, node])
    entries: list[list[int]] = [[] for _ in outer]
    for entry, name in enumerate(zip(call[f"{kind}_treeids"], call[f"{kind}_nodeids"], strict=True)):
        if place[name] >= len(inner):
            entries[place[name] - len(inner)].append(entry)
    order = [entry for each in entries for entry in each]

    def of(attribute: str, dtype: Any) -> np.ndarray:
        values = call[attribute]
        return np.asarray([values[i] for i in inner] if values else [0] * len(inner), dtype)

    def towards(way: str) -> np.ndarray:
        return np.asarray([place[names[i][0], call[f"nodes_{way}nodeids"][i]] for i in inner], np.int64)

    return _checked(
        np.asarray([roots[tree] for tree in sorted(roots)], np.int64),
        of("nodes_featureids", np.int64),
        np.asarray([_OLD_MODES[modes[i]] for i in inner], np.int64),
        _floats(call, "nodes_values")[inner],
        towards("true"),
        towards("false"),
        of("nodes_missing_value_tracks_true", bool),
        np.add.accumulate([0, *map(len, entries)]),
        np.asarray(call[f"{kind}_ids"], np.int64)[order],
        _floats(call, f"{kind}_weights").astype(np.float64)[order],
        {},
    )


def _checked(*parts: Any) -> _Forest:
    forest = _Forest(*parts)
    nodes, total = len(forest.mode), len(forest.mode) + len(forest.first) - 1
    for places in (forest.roots, forest.true, forest.false):
        if places.size and not 0 <= places.min() <= places.max() < total:
            raise ValueError(f"a node that it names is none of {nodes} nodes and {total - nodes} leaves")
    return forest


def _rows(call: Call, x: np.ndarray, forest: _Forest, targets: int) -> np.ndarray:
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    if forest.feature.size and not 0 <= forest.feature.min() <= forest.feature.max() < rows.shape[1]:
        raise call.refuse(f"its nodes look at feature {forest.feature.max()}; its input has shape {x.shape}")
    if forest.target.size and not 0 <= forest.target.min() <= forest.target.max() < targets:
        raise call.refuse(f"its leaves name target {forest.target.max()}; it has {targets}")
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)


@imports("TreeEnsemble", domain=DOMAIN, host=(0,), gradient=False)
def _import_tree_ensemble(call: Call, x: np.ndarray) -> Tensor:
    forest, targets = _prepared(call, _forest), call["n_targets"]
    how = ("AVERAGE", "SUM", "MIN", "MAX")[call["aggregate_function"]]
    scores = forest.scores(call, _rows(call, x, forest, targets), targets, how)
    return _transformed(call, as_tensor(scores, device=call.device)).astype(
        np.float64 if x.dtype == np.float64 else np.float32
    )


@imports("TreeEnsembleRegressor", domain=DOMAIN, host=(0,), gradient=False)
def _import_tree_regressor(call: Call, x: np.ndarray) -> Tensor:
    forest, targets, base = _prepared(call, _old_forest), call["n_targets"], _floats(call, "base_values")
    scores = forest.scores(call, _rows(call, x, forest, targets), targets, call["aggregate_function"])
    made = as_tensor(scores + base if base.size else scores, device=call.device)
    return _transformed(call, made).astype(np.float32)


@imports("TreeEnsembleClassifier", domain=DOMAIN, host=(0,), gradient=False)
def _import_tree_classifier(call: Call, x: np.ndarray) -> tuple[Value, Tensor]:
    forest, labels, base = _prepared(call, _old_forest), _labels(call), _floats(call, "base_values")
    scores = forest.scores(call, _rows(call, x, forest, len(labels)), len(labels), "SUM")
    if len(labels) <= 2 and not forest.target.any():
        positive = bool((forest.weight >= 0).all())
        score = as_tensor(scores[:, :1] + (base[-1] if base.size else 0.0), device=call.device)
        named, made = _decided(call, score, labels, positive, 0.5 if positive else 0.0)
        return named, made.astype(np.float32)
    made = as_tensor(scores + base if base.size else scores, device=call.device)
    return _named(labels, ops.argmax(made, 1)), _transformed(call, made).astype(np.float32)


# -- features --------------------------------------------------------------------------------------------------------


@imports("Scaler", domain=DOMAIN)
def _import_scaler(call: Call, x: Tensor) -> Tensor:
    return ((_wide(x) - _numbers(call, "offset", x)) * _numbers(call, "scale", x)).astype(np.float32)


@imports("Normalizer", domain=DOMAIN)
def _import_normalizer(call: Call, x: Tensor) -> Tensor:
    wide, norm, axis = _wide(x), call["norm"], x.ndim - 1
    if norm == "MAX":
        size = ops.max(wide, axis, keepdims=True)
    elif norm == "L1":
        size = ops.sum(ops.abs(wide), axis, keepdims=True)
    elif norm == "L2":
        size = ops.sqrt(ops.sum(wide * wide, axis, keepdims=True))
    else:
        raise call.refuse(f"norm is {norm!r}; it may be 'MAX', 'L1' or 'L2'")
    return (wide / ops.where(ops.equal(size, 0.0), ops.ones_like(size), size)).astype(np.float32)


@imports("Binarizer", domain=DOMAIN, gradient=False)
def _import_binarizer(call: Call, x: Tensor) -> Tensor:
    return ops.greater(x, call["threshold"]).astype(x.dtype)


@imports("Imputer", domain=DOMAIN)
def _import_imputer(call: Call, x: Tensor) -> Tensor:
    floats = call["imputed_value_floats"]
    values, old = (
        (floats, call["replaced_value_float"])
        if floats
        else (
            call["imputed_value_int64s"],
            call["replaced_value_int64"],
        )
    )
    if not values or (len(values) > 1 and len(values) != x.shape[-1]):
        raise call.refuse(f"it has {len(values or [])} values to put in; its input has shape {x.shape}")
    gone = ops.isnan(x) if floats and math.isnan(old) else ops.equal(x, old)
    put = as_tensor(np.asarray(values, x.dtype), device=x.device)
    return ops.where(gone, ops.broadcast_to(put, x.shape), x)


@imports("FeatureVectorizer", domain=DOMAIN)
def _import_feature_vectorizer(call: Call, *features: Tensor) -> Tensor:
    parts = []
    for x, width in zip(features, call["inputdimensions"], strict=True):
        rows = (ops.reshape(x, (-1, 1)) if x.ndim == 1 else x).astype(np.float32)
        missing = width - rows.shape[1]
        parts.append(ops.pad(rows, [(0, 0), (0, missing)]) if missing > 0 else rows[:, :width])
    return ops.concatenate(parts, 1)


@imports("ArrayFeatureExtractor", domain=DOMAIN, host=(1,), moves=True)
def _import_array_feature_extractor(call: Call, x: Tensor, index: np.ndarray) -> Tensor:
    """Columns; of one axis, a row of them."""
    y = ops.index_select(x, x.ndim - 1, index.reshape(-1).astype(np.int64))
    return ops.reshape(y, (1, -1)) if x.ndim == 1 else y


def _looked_up(x: np.ndarray, table: Mapping[Any, Any], default: Any, dtype: Any) -> np.ndarray:
    """Each element by a table, in which nan is one key."""
    nan = next((value for key, value in table.items() if key != key), default)
    found = [nan if key != key else table.get(key, default) for key in x.reshape(-1).tolist()]
    return np.array(found, dtype).reshape(x.shape)


def _given(call: Call, which: str) -> tuple[Any, Any]:
    """An attribute of one of several types, and what dtype it has."""
    dtypes = {"strings": TEXT, "int64s": np.int64, "floats": np.float32, "tensor": None}
    for kind, dtype in dtypes.items():
        values = call[f"{which}_{kind}"]
        if values is not None and len(values):
            return values, values.dtype if dtype is None else dtype
    raise call.refuse(f"it has no {which}")


_DEFAULTS = {"O": "default_string", "f": "default_float"}


@imports("LabelEncoder", domain=DOMAIN, host=None)
def _import_label_encoder(call: Call, x: np.ndarray) -> np.ndarray:
    if call.version == 1:
        return _mapped(call, x, call["classes_strings"], range(len(call["classes_strings"])))
    (keys, dtype), (values, made) = _given(call, "keys"), _given(call, "values")
    default = call["default_tensor"]
    if default is not None:
        default = default.reshape(-1)[0]
    else:
        default = call[_DEFAULTS.get(np.dtype(made).kind, "default_int64")]
    return _looked_up(x, dict(zip(np.asarray(keys, dtype).tolist(), values, strict=True)), default, made)


@imports("CategoryMapper", domain=DOMAIN, host=None)
def _import_category_mapper(call: Call, x: np.ndarray) -> np.ndarray:
    return _mapped(call, x, call["cats_strings"], call["cats_int64s"])


def _mapped(call: Call, x: np.ndarray, texts: Any, numbers: Any) -> np.ndarray:
    """Text to its number, and a number to its text."""
    if x.dtype == TEXT:
        return _looked_up(x, dict(zip(texts, numbers, strict=True)), call["default_int64"], np.int64)
    return _looked_up(x, dict(zip(numbers, texts, strict=True)), call["default_string"], TEXT)


@imports("OneHotEncoder", domain=DOMAIN, host=None)
def _import_one_hot_encoder(call: Call, x: np.ndarray) -> np.ndarray:
    categories = call["cats_strings"] if call["cats_strings"] else call["cats_int64s"]
    y = (x[..., None] == np.array(categories, TEXT if call["cats_strings"] else np.int64)).astype(np.float32)
    if not call["zeros"] and not y.any(-1).all():
        raise call.refuse("an element is none of its categories")
    return y


@imports("DictVectorizer", domain=DOMAIN, host=None)
def _import_dict_vectorizer(call: Call, x: Any) -> np.ndarray:
    """A row of what a dictionary, or each of several, says of the words; 0 where it says nothing."""
    words = call["string_vocabulary"] or call["int64_vocabulary"]
    rows = [[each.get(word) for word in words] for each in (x if isinstance(x, list | tuple) else [x])]
    some = next((value for row in rows for value in row if value is not None), 0.0)
    dtype = np.asarray(some).dtype
    empty = "" if dtype.kind in "UO" else 0
    return np.array(
        [[empty if value is None else value for value in row] for row in rows], TEXT if empty == "" else dtype
    )


@imports("CastMap", domain=DOMAIN, host=None)
def _import_cast_map(call: Call, x: Mapping[int, Any]) -> np.ndarray:
    """The values in the order of their keys; where ``SPARSE`` says so, at their keys."""
    dtype = {"TO_FLOAT": np.float32, "TO_INT64": np.int64}.get(call["cast_to"], TEXT)
    convert: Any = str if dtype is TEXT else float if dtype is np.float32 else lambda value: int(float(value))
    if call["map_form"] != "SPARSE":
        return np.array([[convert(x[key]) for key in sorted(x)]], dtype)
    y = np.full((1, call["max_map"]), "" if dtype is TEXT else 0, dtype)
    for key, value in x.items():
        if 0 <= key < call["max_map"]:
            y[0, key] = convert(value)
    return y


@imports("ZipMap", domain=DOMAIN, host=None)
def _import_zip_map(call: Call, x: np.ndarray) -> list[dict[Any, float]]:
    """A dictionary a row."""
    names = _labels(call)
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    if len(names) != rows.shape[1]:
        raise call.refuse(f"it has {len(names)} labels; its input has shape {x.shape}")
    return [dict(zip(names, row.tolist(), strict=True)) for row in rows]
