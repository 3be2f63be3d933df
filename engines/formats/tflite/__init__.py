"""TFLite: converted from the SavedModel in FP32, FP16 and INT8, run with LiteRT."""
