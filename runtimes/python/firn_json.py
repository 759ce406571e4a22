"""JSON as simplejson writes it with awslambdaric's settings, for what the accelerator cannot write: decimals with
their digits kept, named tuples as objects, bytes as keys. Also gives simplejson's error messages."""

import _json
import sys


class _Raw(str):
    """Text that is JSON already."""


def encode(value, ensure_ascii):
    quote = _json.encode_basestring_ascii if ensure_ascii else _json.encode_basestring
    parts = []
    _write(value, parts.append, quote, {})
    return "".join(parts)


def _write(value, out, quote, parents):
    if isinstance(value, _Raw):
        out(value)
    elif isinstance(value, str):
        out(quote(value))
    elif isinstance(value, bytes):
        out(quote(value.decode("utf-8")))
    elif value is None:
        out("null")
    elif value is True:
        out("true")
    elif value is False:
        out("false")
    elif isinstance(value, int):
        out(int.__repr__(value))
    elif isinstance(value, float):
        out(_float(value))
    else:
        if id(value) in parents:
            raise ValueError("Circular reference detected")
        parents[id(value)] = value
        _write_container(value, out, quote, parents)
        del parents[id(value)]


def _write_container(value, out, quote, parents):
    asdict = None if isinstance(value, list) else getattr(value, "_asdict", None)
    if asdict is not None and callable(asdict):
        value = asdict()
        if not isinstance(value, dict):
            raise TypeError("_asdict() must return a dict, not %s" % value.__class__.__name__)
    if isinstance(value, dict):
        out("{")
        separator = ""
        for key, member in value.items():
            out(separator)
            out(quote(_key(key)))
            out(": ")
            _write(member, out, quote, parents)
            separator = ", "
        out("}")
    elif isinstance(value, (list, tuple)):
        out("[")
        separator = ""
        for member in value:
            out(separator)
            _write(member, out, quote, parents)
            separator = ", "
        out("]")
    else:
        _write(_replace(value), out, quote, parents)


def _replace(value):
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return float("nan") if value.is_nan() else _Raw(str(value))
    raise TypeError("Object of type %s is not JSON serializable" % value.__class__.__name__)


def _key(key):
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8")
    if isinstance(key, float):
        return _float(key)
    if key is True:
        return "true"
    if key is False:
        return "false"
    if key is None:
        return "null"
    if isinstance(key, int):
        return int.__repr__(key)
    raise TypeError("keys must be str, int, float, bool or None, not " + key.__class__.__name__)


def _float(value):
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)
