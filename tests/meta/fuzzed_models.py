"""Edits of ONNX and TFLite files by their own schemas: any field of any part gets another value, or is gone."""

from __future__ import annotations

import numpy as np

INTEGERS = [0, -1, 1, 2, 3, 7, 100, 127, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63), 2**63 - 1]
FLOATS = [0.0, -1.0, 1e38, float("nan"), float("inf")]
TEXTS = ["", "x", "a" * 300, "a\nb", "../../etc/x", "/etc/x", "ai.onnx", "com.mine"]
OPERATORS = ["Loop", "If", "Cast", "Identity", "Dropout", "DequantizeLinear", "ConstantOfShape", "Reshape", "NoSuch"]


def edited_onnx(content, random):
    """ONNX file with up to three edits of its protobuf messages, each kind of message as likely as another."""
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(content)
    for _ in range(random.randint(1, 3)):
        everything = list(_messages(model))
        kind = random.choice(sorted({type(m).__name__ for m in everything}))
        message = random.choice([m for m in everything if type(m).__name__ == kind])
        _edit(message, random.choice(message.DESCRIPTOR.fields), everything, random)
    return model.SerializeToString()


def _messages(message):
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                yield from _messages(one)


def _edit(message, field, everything, random):
    is_message = field.type == field.TYPE_MESSAGE
    others = [m for m in everything if is_message and type(m).__name__ == field.message_type.name]
    if not field.is_repeated:
        if random.random() < 0.25:
            message.ClearField(field.name)
        elif not is_message:
            setattr(message, field.name, _value(field, everything, random))
        elif others:
            # A copy of its own: a message that is put into itself ends protobuf.
            getattr(message, field.name).MergeFromString(random.choice(others).SerializeToString())
        else:
            getattr(message, field.name).SetInParent()
        return
    items = getattr(message, field.name)
    kind = random.choice(["leave out", "double", "new", "replace"])
    if kind == "leave out" and len(items):
        del items[random.randrange(len(items))]
    elif is_message:
        chosen = random.choice(others) if others and kind != "new" else None
        added = items.add()
        if chosen is not None:
            added.MergeFromString(chosen.SerializeToString())
    elif kind == "replace" and len(items):
        items[random.randrange(len(items))] = _value(field, everything, random)
    else:
        items.append(_value(field, everything, random))


def _value(field, everything, random):
    if field.type == field.TYPE_STRING:
        names = [m.name for m in everything if isinstance(getattr(m, "name", None), str)]
        return random.choice([*TEXTS, *OPERATORS, *names[:50]])
    if field.type == field.TYPE_BYTES:
        return random.choice([b"", b"\xff" * 7, bytes(64), b"\xff" * 4096])
    if field.type in {field.TYPE_FLOAT, field.TYPE_DOUBLE}:
        return random.choice(FLOATS)
    if field.type == field.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    number = random.choice(INTEGERS)
    if field.type == field.TYPE_INT32:
        return max(-(2**31), min(number, 2**31 - 1))
    return abs(number) if field.type == field.TYPE_UINT64 else number


def edited_tflite(content, random):
    """TFLite file with up to three edits of its tables, as the flatbuffer's schema has them; None where it has none."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content), 0))
    for _ in range(random.randint(1, 3)):
        everything = list(_tables(model))
        kind = random.choice(sorted({type(t).__name__ for t in everything}))
        table = random.choice([t for t in everything if type(t).__name__ == kind])
        if vars(table):
            field = random.choice(list(vars(table)))
            setattr(table, field, _other(getattr(table, field), random))
    builder = flatbuffers.Builder(1 << 16)
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None  # what the schema has no form for
    return bytes(builder.Output())


def _tables(value):
    if isinstance(value, list):
        for one in value:
            yield from _tables(one)
    elif hasattr(value, "__dict__"):
        yield value
        for one in vars(value).values():
            yield from _tables(one)


def _other(value, random):  # noqa: PLR0911 - one for each kind
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice([i for i in INTEGERS if abs(i) < 2**31])
    if isinstance(value, float):
        return random.choice(FLOATS)
    if isinstance(value, (bytes, str)):
        return random.choice([b"", b"x", b"a" * 300, b"a\nb"])
    if isinstance(value, np.ndarray) and value.size:
        if random.random() < 0.4:
            return value[: random.randrange(value.size)]
        changed, ends = value.copy(), np.iinfo(value.dtype) if value.dtype.kind in "iu" else np.finfo(value.dtype)
        changed[random.randrange(value.size)] = random.choice([0, 1, ends.min, ends.max])
        return changed
    if isinstance(value, list) and value:
        kind, at = random.choice(["leave out", "double", "none", "other"]), random.randrange(len(value))
        if kind == "leave out":
            return value[:at] + value[at + 1 :]
        if kind == "double":
            return [*value, value[at]]
        if kind == "other" and not hasattr(value[at], "__dict__"):
            return [*value[:at], random.choice([0, -1, 1, 100, 2**31 - 1]), *value[at + 1 :]]
    return None
