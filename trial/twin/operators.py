"""What a twin knows of ONNX's operators: which move values, which sum them up, which it cannot look into."""

from __future__ import annotations

MOVING = frozenset(
    "Relu MaxPool GlobalMaxPool Reshape Transpose Identity Squeeze Unsqueeze Concat Slice Shape Size Cast CastLike Gather "
    "GatherElements GatherND ScatterElements ScatterND Scatter Flatten Clip Pad Constant ConstantOfShape Expand Tile "
    "Split Max Min Neg Abs Where Sign Floor Ceil Round Not And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual "
    "ArgMax ArgMin TopK NonZero NonMaxSuppression OneHot Range EyeLike Trilu Compress Unique IsNaN IsInf DepthToSpace "
    "SpaceToDepth ReduceMax ReduceMin ReverseSequence SequenceEmpty SequenceConstruct SequenceAt SequenceInsert "
    "SequenceErase SequenceLength SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement "
    "BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot MaxUnpool StringNormalizer Hardmax".split()
)
"""Operators that give values as they took them, compare them, or count: nothing is rounded."""

PRODUCTS = frozenset("Conv ConvTranspose MatMul Gemm".split())
"""Operators whose results are sums of products with weights."""

RECURRENT = frozenset("LSTM GRU RNN".split())
"""Products and a loop in one: rounded once, at the end."""

SUMS = PRODUCTS | RECURRENT | frozenset(
    "Einsum ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp GlobalAveragePool "
    "AveragePool LpPool GlobalLpPool LpNormalization CumSum LayerNormalization InstanceNormalization "
    "GroupNormalization MeanVarianceNormalization DFT STFT DeformConv Attention".split()
)
"""Operators whose results are sums."""

ROUNDING = SUMS | frozenset(
    "Add Sub Mul Div Mod Pow Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf "
    "Sigmoid HardSigmoid HardSwish Softplus Softsign Softmax LogSoftmax Elu Selu Celu Gelu Mish LeakyRelu PRelu "
    "ThresholdedRelu Swish BatchNormalization LRN Sum Mean ReduceProd Resize Upsample GridSample RoiAlign MaxRoiPool "
    "HannWindow HammingWindow BlackmanWindow MelWeightMatrix Det Shrink Dropout QuantizeLinear DequantizeLinear".split()
)
"""Operators whose results are rounded."""

BODIES = frozenset("If Loop Scan SequenceMap".split())
"""Operators with graphs inside, which a twin does not look into."""

RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split())
"""Operators that draw numbers: no run of such a model is like another."""

ACTIVATIONS = frozenset("Relu Clip".split())
"""What integer engines compute together with the operator before it, so that only the result is on a grid."""

FOLDED = frozenset("Add Sub Mul Div BatchNormalization".split())
"""What converters fold into the weights and the bias of the product before it, where it is by constants."""
