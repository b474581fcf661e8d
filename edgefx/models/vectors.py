"""Whether a vector is an embedding or the scores of classes, where no sigmoid or softmax tells.

Two kinds are surely no scores: a vector that was divided by its own length, and features that were pooled or
flattened. Features come from an activation, or from a sum with what went around the last block; scores from a
convolution or a dense layer. What may be either is left to be scores.
"""

from __future__ import annotations

from itertools import islice

from edgefx.models.backwards import PASS_THROUGH, SUMS, EntangledError, Operation

_SAME = PASS_THROUGH | {"ExpandDims", "Transpose", "StopGradient", "Snapshot"}
_WINDOWS = frozenset({"AvgPool", "MaxPool"})
_REDUCTIONS = frozenset({"Mean", "Max", "Sum"})
_NORMALIZATIONS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_OF_FIRST = _SAME | _WINDOWS | _REDUCTIONS | _NORMALIZATIONS  # the other inputs say how
_ARITHMETIC = SUMS | {"Sub", "Mul", "RealDiv", "DivNoNan", "Neg", "Pow", "Maximum", "Minimum"}
_AFFINE = _ARITHMETIC | _SAME | _NORMALIZATIONS  # of one tensor and constants
_RECTIFIERS = frozenset({"Relu", "Relu6", "Elu", "Selu", "LeakyRelu"})
_ROOTS = frozenset({"Sqrt", "Rsqrt", "Pow"})
_SQUARES = frozenset({"Square", "Mul", "Pow"})
# What computes a tensor from another alone: value by value, or from statistics of its values.
_OF_ONE = (
    _AFFINE
    | _REDUCTIONS
    | _RECTIFIERS
    | _ROOTS
    | _SQUARES
    | {"Sigmoid", "Tanh", "Softplus", "Erf", "Erfc", "Exp", "Log", "Reciprocal", "SquaredDifference"}
)
_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
_BLOCK = 500  # operations in which the longest block has begun


def is_embedding(end: Operation) -> bool:
    """Whether an operation that gives a vector surely gives no scores.

    Args:
        end: The last operation.
    """
    end.graph.begin()
    try:
        return _is_features(end)
    except (EntangledError, RecursionError):  # as no network is written: a file may be made to take for ever
        return False


def _is_features(end: Operation) -> bool:
    op = _source(end, pooled=True)
    if op.type in _RECTIFIERS:
        return _is_map(op) and not _may_be_scores(op)
    if op.type == "ConcatV2":
        return all(_is_features(one) for one in _data(op))
    data = _data(op)
    if op.type not in _ARITHMETIC or len(data) != 2:
        return False
    kinds = _relation(data)
    if kinds is None:
        return _is_merged(op, data)
    if "Sum" in kinds:
        return bool(kinds & _SQUARES) and bool(kinds & _ROOTS) and "Exp" not in kinds
    return _is_map(op)  # x * f(x): swish, GELU and the like


def _data(op: Operation) -> list[Operation]:
    """Return the inputs that pixels change."""
    inputs = op.inputs
    return inputs[:1] if op.type in _OF_FIRST else [one for one in inputs if not one.is_constant]


def _source(op: Operation, *, pooled: bool = False) -> Operation:
    """Go back past what leaves scores scores and features features; past poolings, too, if so said."""
    while True:
        data = _data(op)
        if (op.type in _AFFINE and len(data) == 1) or (pooled and _is_pooling(op)):
            op = data[0]
        elif op.type in _ARITHMETIC and len(data) == 2 and _is_standardized(data):
            op = _source(data[0])
        else:
            return op


def _is_pooling(op: Operation) -> bool:
    """Whether positions of a map become one, and channels stay."""
    if op.type in _WINDOWS:
        return True
    return op.type in ("Mean", "Max") and op.shape[-1:] == op.inputs[0].shape[-1:] != ()


def _is_standardized(data: list[Operation]) -> bool:
    """Whether a tensor is shifted or scaled by its own mean and variance, as LayerNormalization does."""
    kinds = _relation(data)
    return kinds is not None and "Mean" in kinds and "Sum" not in kinds


def _relation(data: list[Operation]) -> frozenset[str] | None:
    """Return by what one of two tensors is made of the other, or of its source; None where it is not."""
    first, second = data
    for one, other in ((first, second), (second, first)):
        kinds = _made(other, _scaled(one))
        if kinds is not None:
            return kinds
    for one, other in ((first, second), (second, first)):
        kinds = _made(other, _source(one))
        if kinds is not None:
            return kinds
    return None


def _scaled(op: Operation) -> Operation:
    """Go back past what only moves, shifts or scales by constants."""
    while op.type in _AFFINE and len(_data(op)) == 1:
        (op,) = _data(op)
    return op


def _made(op: Operation, source: Operation) -> frozenset[str] | None:
    """Return the types of operations by which one tensor is made of another alone; None where it is not."""
    if op == source:
        return frozenset()
    data = _data(op)
    if op.type not in _OF_ONE or not data:
        return None
    found = {op.type}
    for one in data:
        kinds = _made(one, source)
        if kinds is None:
            return None
        found |= kinds
    return frozenset(found)


def _is_merged(op: Operation, data: list[Operation]) -> bool:
    """Whether features of two kinds are added, or features are weighted, as by squeeze and excite."""
    if op.type in SUMS:
        return (_is_map(op) and _is_shortcut(*data)) or all(_is_features(one) for one in data)
    return op.type == "Mul" and any(_is_features(one) for one in data)


def _is_shortcut(one: Operation, other: Operation) -> bool:
    """Whether one of two tensors is what the other was computed from: a block, and what went around it."""
    return any(
        start.past(_SAME) in islice(block.above(), _BLOCK) for start, block in ((one, other), (other, one))
    )


def _is_map(op: Operation) -> bool:
    """Whether it has positions, beside images and channels."""
    return len(op.shape) > 2


def _may_be_scores(op: Operation) -> bool:
    """Whether a ReLU cuts off what may be scores: one value per class and position, as in SqueezeNet."""
    biased = op.inputs[0].past(_SAME)
    if biased.type not in SUMS or len(_data(biased)) != 1:
        return False
    product = _data(biased)[0].past(_SAME)
    return product.type in _PRODUCTS or (
        product.type == "Conv2D" and product.inputs[1].shape[:2] in ((), (1, 1))
    )
