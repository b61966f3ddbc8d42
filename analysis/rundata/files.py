# SPDX-License-Identifier: Apache-2.0
"""Reads JSON and JSON Lines files of a run that may be unfinished, killed in the middle of a line, or damaged.

A run must stay readable whatever happened to it, so nothing here raises: a reader returns what it can and appends a
note for the rest, and the accessors (number, whole, member, text) accept any JSON value.
"""
import json
import math
import zlib
from pathlib import Path


def read_json(path, notes):
    """The JSON object in the file; {} if there is no file, or, with a note, if it is not a readable JSON object."""
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


def read_summary(path, notes):
    """summary.json: as read_json, and {} with a note if its checksum does not hold. Earlier versions wrote none."""
    value = read_json(path, notes)
    if "crc32" not in value:
        return value
    content, found, _ = Path(path).read_bytes().rpartition(b',\n  "crc32": ')
    if found and value["crc32"] == f"{zlib.crc32(content):08x}":
        return value
    notes.append(f"{Path(path).name} is damaged: its checksum does not hold; --resume writes it again")
    return {}


def read_lines(path, notes):
    """All objects of a JSON Lines file; [] if there is no file. Damaged lines are skipped and noted."""
    path = Path(path)
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as e:
        notes.append(f"{path.name} cannot be read: {e}")
        return []
    # The program ends every line with a newline: text after the last one was cut off when the run was killed.
    if lines.pop():
        notes.append(f"{path.name}: the last line is incomplete and left out")
    objects, damaged = [], []
    for line_number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            objects.append(value)
        else:
            damaged.append(str(line_number))
    if damaged:
        notes.append(f"{path.name}: left out damaged lines {', '.join(damaged[:10])}")
    return objects


def number(value):
    """The value as a float; NaN for null, a missing value, or anything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)


def whole(value, default=0):
    """The value as an int; the default if it is not a finite number."""
    value = number(value)
    return int(value) if math.isfinite(value) else default


def member(value, *keys):
    """value[key][key]...; None if a key is missing or a value on the way is not an object."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value, default=""):
    """The value if it is a string, else the default."""
    return value if isinstance(value, str) else default
