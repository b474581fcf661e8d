"""The operations and functions of TensorFlow that a model file may name, because they only compute.

Lists of what is allowed, not of what is forbidden. TensorFlow marks operations as stateful, which is close
to "has effects", but `ReadFile`, `ImmutableConst` (maps a file), `DecodeProtoV2` (reads a descriptor from a
file), `PyFuncStateless` and the debug operations (write to a file or to a server) are stateless in its
eyes, and each version adds more than a thousand names. What an image classifier is made of fits on a page.

Deliberately absent, besides files, Python, processes and the network: printing (`PrintV2` writes to any
file), summaries, data sets, `Abort`, `XlaCallModule` and custom calls, and tables that are filled from a
text file.
"""

from __future__ import annotations

_ARITHMETIC = """
    Abs Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh
    BatchMatMul BatchMatMulV2 BatchMatMulV3 BesselI0 BesselI0e BesselI1 BesselI1e Betainc Bincount
    BitwiseAnd BitwiseOr BitwiseXor Bucketize Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross
    Cumprod Cumsum CumulativeLogsumexp DenseBincount Digamma Div DivNoNan Einsum Equal Erf Erfc Erfinv
    EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual HistogramFixedWidth Igamma
    Igammac Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd
    LogicalNot LogicalOr MatMul Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual
    Polygamma Pow Prod Real RealDiv Reciprocal RightShift Rint Round Rsqrt SegmentMax SegmentMean
    SegmentMin SegmentProd SegmentSum Sigmoid Sign Sin Sinh Sqrt Square SquaredDifference Sub Sum Tan Tanh
    TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
    Xdivy Xlog1py Xlogy Zeta Cholesky Lu MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
    MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag
    MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2 Svd FFT FFT2D
    IFFT IFFT2D IRFFT IRFFT2D RFFT RFFT2D
"""
_ARRAYS = """
    BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastTo Cast CheckNumerics CheckNumericsV2
    Concat ConcatOffset ConcatV2 ConjugateTranspose Const DataFormatDimMap DataFormatVecPermute DeepCopy
    DepthToSpace Diag DiagPart DynamicPartition DynamicStitch Empty EnsureShape ExpandDims Fill Gather
    GatherNd GatherV2 GuaranteeConst HostConst Identity IdentityN InplaceAdd InplaceSub InplaceUpdate
    InvertPermutation LinSpace ListDiff LowerBound MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelConcat
    ParallelDynamicStitch Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient Range Rank
    Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd ScatterNdNonAliasingAdd Select SelectV2 Shape
    ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
    StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
    TensorStridedSliceUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack
    UnravelIndex UpperBound VariableShape Where ZerosLike
"""
_NETWORKS = """
    ApproxTopK AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv3D
    DepthwiseConv2dNative Dilation2D Elu FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool FractionalMaxPool FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D InTopK InTopKV2 L2Loss LRN LeakyRelu
    LogSoftmax MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax NthElement Relu Relu6 Selu Softmax
    SoftmaxCrossEntropyWithLogits Softplus Softsign SparseSoftmaxCrossEntropyWithLogits TopK TopKV2
    Dequantize QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
    QuantizeAndDequantizeV4 QuantizeV2 QuantizedAvgPool QuantizedBiasAdd QuantizedConcat QuantizedConv2D
    QuantizedMatMul QuantizedMaxPool QuantizedRelu QuantizedRelu6 QuantizedReshape Requantize
    RequantizationRange UniformDequantize UniformQuantize UniformRequantize UniformQuantizedAdd
    UniformQuantizedClipByValue UniformQuantizedConvolution UniformQuantizedConvolutionHybrid
    UniformQuantizedDot UniformQuantizedDotHybrid
"""
_IMAGES = """
    AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize
    DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw
    EncodeBase64 EncodeJpeg EncodePng ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches ExtractJpegShape
    HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2
    NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
    ScaleAndTranslate
"""
_RANDOM = """
    Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoissonV2 RandomShuffle
    RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal RngReadAndSkip RngSkip
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt StatelessMultinomial StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
    StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormal
    StatelessTruncatedNormalV2
"""
_CONTROL = """
    Assert Case ControlTrigger Enter Exit FakeParam For If LoopCond Merge NextIteration NoOp
    PartitionedCall RefEnter RefExit RefIdentity RefMerge RefNextIteration RefSwitch
    StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch While EmptyTensorList
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
    TensorListScatter TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
    TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 OptionalFromValue
    OptionalGetValue OptionalHasValue OptionalNone
"""
_STATE = """
    Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp DestroyResourceOp
    DisableCopyOnRead IsVariableInitialized ReadVariableOp ResourceGather ResourceGatherNd VarHandleOp
    VarIsInitializedOp Variable VariableV2 AnonymousHashTable HashTable HashTableV2 InitializeTable
    InitializeTableV2 LookupTableExport LookupTableExportV2 LookupTableFind LookupTableFindV2
    LookupTableImport LookupTableImportV2 LookupTableInsert LookupTableInsertV2 LookupTableRemoveV2
    LookupTableSize LookupTableSizeV2 MutableHashTable MutableHashTableV2
"""
_TEXT = """
    AsString RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
    StringLength StringLower StringSplitV2 StringStrip StringToHashBucketFast StringToNumber StringUpper
    Substr ParseExample ParseExampleV2 ParseSingleExample
"""

PURE = frozenset(f"{_ARITHMETIC}{_ARRAYS}{_NETWORKS}{_IMAGES}{_RANDOM}{_CONTROL}{_STATE}{_TEXT}".split())
"""Operations that compute: on tensors, on variables of the model, on tables that are filled from tensors."""

RESTORE = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
"""What reads a checkpoint: part of every SavedModel's restore function, and allowed nowhere else."""

# Symbols of TensorFlow's Python interface as Keras 2 writes them into TFOpLambda layers, without "tf.".
_SYMBOLS = """
    argsort batch_to_space boolean_mask broadcast_to cast clip_by_norm clip_by_value concat
    convert_to_tensor cumsum dtypes.cast dtypes.saturate_cast einsum ensure_shape expand_dims eye fill
    gather gather_nd identity identity_n linspace matmul meshgrid norm one_hot ones ones_like pad range
    rank repeat reshape reverse roll round saturate_cast scatter_nd searchsorted shape shape_n size slice
    sort space_to_batch split sqrt squeeze stack stop_gradient strided_slice tensor_scatter_nd_add
    tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot
    tile transpose unique unstack where zeros zeros_like
"""
_BACKEND = """
    abs batch_flatten bias_add cast clip concatenate dot elu exp expand_dims flatten hard_sigmoid
    l2_normalize log max maximum mean min minimum permute_dimensions pow relu repeat_elements reshape
    resize_images reverse round sigmoid sign softmax softplus softsign spatial_2d_padding sqrt square
    squeeze stack std sum tanh tile transpose var
"""
_FUNCTIONS = frozenset((*_SYMBOLS.split(), *(f"keras.backend.{name}" for name in _BACKEND.split())))
_NAMESPACES = (
    "__operators__.",
    "bitwise.",
    "image.",
    "keras.activations.",
    "linalg.",
    "math.",
    "nn.",
    "quantization.",
)


def is_pure_function(symbol: str) -> bool:
    """Whether a symbol of TensorFlow's interface, such as ``math.add`` or ``compat.v1.pad``, only computes.

    The namespaces that are allowed as a whole hold nothing but mathematics on tensors.
    """
    name = symbol.removeprefix("compat.v1.")
    return name.startswith(_NAMESPACES) or name in _FUNCTIONS
