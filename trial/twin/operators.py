"""What a twin knows of ONNX's operators: which move values, which sum them up, which it cannot look into."""

from __future__ import annotations


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


MOVING = _named(
    "Relu MaxPool GlobalMaxPool Reshape Transpose Identity Squeeze Unsqueeze Concat Slice Shape Size Cast "
    "CastLike Gather GatherElements GatherND ScatterElements ScatterND Scatter Flatten Clip Pad Constant "
    "ConstantOfShape Expand Tile Split Max Min Neg Abs Where Sign Floor Ceil Round Not And Or Xor Equal Less "
    "Greater LessOrEqual GreaterOrEqual ArgMax ArgMin TopK NonZero NonMaxSuppression OneHot Range EyeLike Trilu "
    "Compress Unique IsNaN IsInf DepthToSpace SpaceToDepth ReduceMax ReduceMin ReverseSequence SequenceEmpty "
    "SequenceConstruct SequenceAt SequenceInsert SequenceErase SequenceLength SplitToSequence ConcatFromSequence "
    "Optional OptionalGetElement OptionalHasElement BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot MaxUnpool "
    "StringNormalizer Hardmax"
)
"""Operators that give values as they took them, compare them, or count: nothing is rounded."""

STORED = _named(
    "Reshape Squeeze Unsqueeze Transpose Flatten Slice Concat Expand Gather GatherND Split Compress ReverseSequence "
    "ScatterND Max Min Clip"
)
"""Moving operators that ONNX Runtime's CPU has for FP16, as its optimized graphs show; others it runs in FP32."""

PRODUCTS = _named("Conv ConvTranspose MatMul Gemm")
"""Operators whose results are sums of products with weights."""

SOFTMAX = _named("Softmax LogSoftmax")

MASKING = _named("Add Sub Mul Div")
"""Operators that put a mask on numbers, beside those that move."""

RECURRENT = _named("LSTM GRU RNN")
"""Products and a loop in one: rounded once, at the end."""

SUMS = (
    PRODUCTS
    | RECURRENT
    | _named(
        "Einsum ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp GlobalAveragePool "
        "AveragePool LpPool GlobalLpPool LpNormalization CumSum LayerNormalization InstanceNormalization "
        "GroupNormalization MeanVarianceNormalization DFT STFT DeformConv Attention"
    )
)
"""Operators whose results are sums."""

ROUNDING = SUMS | _named(
    "Add Sub Mul Div Mod Pow Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh "
    "Erf Sigmoid HardSigmoid HardSwish Softplus Softsign Softmax LogSoftmax Elu Selu Celu Gelu Mish LeakyRelu "
    "PRelu ThresholdedRelu Swish BatchNormalization LRN Sum Mean ReduceProd Resize Upsample GridSample RoiAlign "
    "MaxRoiPool HannWindow HammingWindow BlackmanWindow MelWeightMatrix Det Shrink Dropout QuantizeLinear "
    "DequantizeLinear"
)
"""Operators whose results are rounded."""

BODIES = _named("If Loop Scan SequenceMap")
"""Operators with graphs inside, which a twin does not look into."""

RANDOM = _named("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli")
"""Operators that draw numbers: no run of such a model is like another."""

ACTIVATIONS = _named("Relu Clip")
"""What integer engines compute together with the operator before it, so that only the result is on a grid."""

FOLDED = _named("Add Sub Mul Div BatchNormalization")
"""What converters fold into the weights and the bias of the product before it, where it is by constants."""

SETTINGS = {"Resize": 1, "Upsample": 1}
"""The first input, by operator, that says how it works and holds no values: ONNX takes scales in FP32 alone."""
