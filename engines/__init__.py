"""Make and run engines: SavedModel, ONNX and TFLite from one model under test.

Nothing here knows of pytest, and every framework is imported only inside the functions of its own module.
"""
