#!/usr/bin/env bash
# TensorFlow 2.21.0's TFLite converter with Keras 3.15.1: a model inside a tf.Module is converted without its weights, silently.
#
# tf.Module lists the variables that it finds as its own attributes. A Keras 3 model that it holds is an object of another
# kind, whose variables it does not list. tf.saved_model.save writes them all the same, and the loaded SavedModel answers
# right, bit for bit. The converter freezes only those that the SavedModel lists: the others become handles that the file
# reads and that nothing in it ever gives a value, without a warning or an error. So what the file answers is undefined.
# Listing the variables on the module, which changes no answer of the SavedModel, makes the same file with its weights.
# Seen: one Dense layer. Without the list the file is smaller, has READ_VARIABLE twice and ASSIGN_VARIABLE never; with it,
# neither. The file without weights is only looked into here, not run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" - 2> log <<'PY' || { cat log >&2; exit 1; }
from collections import Counter

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

keras.utils.set_random_seed(0)
given = keras.Input((64,))
model = keras.Model(given, keras.layers.Dense(32)(given))
x = np.random.default_rng(0).random((4, 64), np.float32)
NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def saved(listed):
    module = tf.Module()
    module.model = model
    module.serve = tf.function(lambda x: {"y": model(x)}, [tf.TensorSpec((None, 64), tf.float32, "x")])
    if listed:
        module.kept = [v.value for v in model.variables]
    path = f"listed_{listed}"
    tf.saved_model.save(module, path, signatures={"serving_default": module.serve})
    right = tf.saved_model.load(path).signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    return path, len(module.variables), bool((right == model(x).numpy()).all())


def operators(path):
    content = tf.lite.TFLiteConverter.from_saved_model(path).convert()
    file = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    used = (file.operatorCodes[o.opcodeIndex] for graph in file.subgraphs for o in graph.operators)
    return Counter(NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in used), len(content)


for listed in (False, True):
    path, count, right = saved(listed)
    found, size = operators(path)
    read, assigned = found["READ_VARIABLE"], found["ASSIGN_VARIABLE"]
    print(f"the module lists {count} variables; the SavedModel answers as the model: {right}; ", end="")
    print(f"the file of {size:,} bytes reads {read} variables and gives {assigned} a value")
    assert right, "the SavedModel itself answers otherwise now"
    assert (count, read, assigned) == ((2, 0, 0) if listed else (0, 2, 0)), "the converter does otherwise now"
PY
