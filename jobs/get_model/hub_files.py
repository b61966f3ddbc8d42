# SPDX-License-Identifier: Apache-2.0
"""Parses the answers of a Hugging Face hub about a repository and checks downloaded files. Standard library only.

usage: hub_files.py revision < api/models/REPO/revision/REV      prints the commit
       hub_files.py plan     < api/models/REPO/tree/COMMIT       prints "SIZE ALGORITHM HASH PATH" per file to download
       hub_files.py shards DIR                                   prints the weight files that DIR's index names
       hub_files.py verify FILE SIZE ALGORITHM HASH              "-" instead of a value: not checked
       hub_files.py check DIR                                    all shards present, all safetensors files complete
Exit status: 0 valid, 65 invalid data, 2 usage.
"""

import hashlib
import json
import os
import re
import struct
import sys
from pathlib import Path

WANTED = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.json|merges\.txt|tokenizer\.model|chat_template\.(jinja|json)"
    r"|README\.md|LICENSE(\.txt|\.md)?|NOTICE(\.txt)?|USE_POLICY\.md"  # the card of an export names the licence
    r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
)
INDEX = "model.safetensors.index.json"
MAX_HEADER = 100 << 20  # bytes, far more than any real header
BLOCK = 1 << 20  # bytes read at a time


class BadData(Exception):
    """The hub's answer or a file is invalid."""


def read_json(text, what):
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadData(f"{what} is not JSON: {error}") from error


def commit_of(text):
    """The commit hash in the hub's description of a revision."""
    sha = read_json(text, "the hub's answer").get("sha", "")
    if not re.fullmatch(r"[0-9a-f]{40}", sha):
        raise BadData("the hub's answer names no commit")
    return sha


def plan_line(entry):
    """SIZE ALGORITHM HASH PATH. The hub knows the SHA-256 of large files, and only the Git blob hash of small ones."""
    lfs = entry.get("lfs")
    if lfs:
        return f"{lfs['size']} sha256 {lfs['oid']} {entry['path']}"
    return f"{entry['size']} gitblob {entry['oid']} {entry['path']}"


def plan(text):
    """The plan lines of the files to download: small files first, so that a wrong repository is noticed early."""
    entries = read_json(text, "the hub's answer")
    if not isinstance(entries, list):
        raise BadData("the hub's answer is not a list of files")
    wanted = [e for e in entries if e.get("type") == "file" and WANTED.fullmatch(e.get("path", ""))]
    if not any(e["path"].endswith(".safetensors") for e in wanted):
        raise BadData("the repository has no safetensors weights")
    return [plan_line(e) for e in sorted(wanted, key=lambda e: (e["path"].endswith(".safetensors"), e["path"]))]


def shards(directory):
    """Weight files of a directory: those that its index names; model.safetensors if it has no index."""
    index = directory / INDEX
    if not index.exists():
        return ["model.safetensors"]
    names = set(read_json(index.read_text(encoding="utf-8"), INDEX).get("weight_map", {}).values())
    bad = [n for n in names if not WANTED.fullmatch(n) or not n.endswith(".safetensors")]
    if bad or not names:
        raise BadData(f"{INDEX} names {', '.join(sorted(bad)) or 'no file'}")
    return sorted(names)


def digest(path, algorithm):
    """Checksum of a file: sha256 of its contents, or gitblob, the hash by which Git names it."""
    size = path.stat().st_size
    state = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
    return state.hexdigest()


def verify(path, size, algorithm, expected):
    """Raises BadData unless the file has the size and the checksum; "-" is not checked."""
    actual = path.stat().st_size
    if size != "-" and actual != int(size):
        raise BadData(f"{path.name} has {actual} bytes, expected {size}")
    if algorithm != "-" and digest(path, algorithm) != expected:
        raise BadData(f"{path.name} does not match its {algorithm} checksum")


def check_safetensors(path):
    """Raises BadData unless the header can be parsed and the file ends where its last tensor ends."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        word = file.read(8)
        length = struct.unpack("<Q", word)[0] if len(word) == 8 else MAX_HEADER + 1
        if length > MAX_HEADER or 8 + length > size:
            raise BadData(f"{path.name} is not a safetensors file")
        header = read_json(file.read(length), f"the header of {path.name}")
    end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if 8 + length + end != size:
        raise BadData(f"{path.name} has {size} bytes, its header asks for {8 + length + end}")


def check(directory):
    """Raises BadData unless the directory holds a complete model."""
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).exists():
            raise BadData(f"{name} is missing")
        read_json((directory / name).read_text(encoding="utf-8"), name)
    for name in shards(directory):
        if not (directory / name).exists():
            raise BadData(f"{name} is missing")
        check_safetensors(directory / name)


def run(arguments):
    """Runs a subcommand. Returns the lines to print; None for wrong arguments."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "revision" and not rest:
        return [commit_of(sys.stdin.read())]
    if verb == "plan" and not rest:
        return plan(sys.stdin.read())
    if verb == "shards" and len(rest) == 1:
        return shards(Path(rest[0]))
    if verb == "verify" and len(rest) == 4:
        return verify(Path(rest[0]), *rest[1:]) or []
    if verb == "check" and len(rest) == 1:
        return check(Path(rest[0])) or []
    return None


def main(arguments):
    try:
        lines = run(arguments)
    except (BadData, OSError, KeyError, TypeError, AttributeError) as error:
        print(f"{os.path.basename(__file__)}: {error}", file=sys.stderr)
        return 65
    if lines is None:
        print(__doc__, file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
