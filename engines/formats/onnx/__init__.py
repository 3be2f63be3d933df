"""ONNX: converted from the SavedModel in FP32, FP16 and INT8 (Q/DQ), run with ONNX Runtime."""
