"""JSON and JSON lines of a run that may be unfinished, killed in the middle of a line, or damaged."""
import json
import math
from pathlib import Path


def read_json(path, notes):
    """The object in the file; {} with a note if there is none that can be read, {} alone if there is no file."""
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError) as e:
        notes.append(f"{path.name} cannot be read: {e}")
        return {}
    if isinstance(value, dict):
        return value
    notes.append(f"{path.name} holds no object")
    return {}


def parse_line(text):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_lines(path, notes):
    """All objects of a JSON lines file. A last line without its end was cut off by a kill and is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as e:
        notes.append(f"{path.name} cannot be read: {e}")
        return []
    if lines.pop():
        notes.append(f"{path.name}: the last line is incomplete and left out")
    objects = [parse_line(line) for line in lines]
    damaged = [number for number, value in enumerate(objects, 1) if value is None]
    if damaged:
        notes.append(f"{path.name}: left out damaged lines {', '.join(map(str, damaged[:10]))}")
    return [value for value in objects if value is not None]


def number(value):
    """A float; NaN for null, for what is missing and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)


def whole(value, default=0):
    value = number(value)
    return int(value) if math.isfinite(value) else default


def member(value, *keys):
    """value[key][key]...; None where something on the way is missing or no object."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value, default=""):
    return value if isinstance(value, str) else default
