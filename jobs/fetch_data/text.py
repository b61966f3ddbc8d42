# SPDX-License-Identifier: Apache-2.0
"""Downloads WikiText-2 (raw) and a part of C4 row by row from the Hugging Face hub.

usage: text.py [--addresses] DIR       HUB_ROWS: address of the hub's rows service
DIR/wikitext2/wiki.{valid,test}.raw   DIR/c4/c4.jsonl       Exit 69: the service is unreachable.
"""
import itertools
import json
import os
import sys
import urllib.error

from choices import address, print_origin, rows

C4_DOCUMENTS = 2000  # about a million tokens, four times the largest calibration set of configs/


WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
WIKITEXT_LINES = {"validation": 3760, "test": 4358}
C4 = ("allenai/c4", "en", "validation")


def wikitext(service, split):
    """Yields the lines of the published file. In the hub's rows, blank lines are empty strings."""
    for row in rows(service, *WIKITEXT, split):
        yield row["text"] or " \n"


def c4(service):
    for row in itertools.islice(rows(service, *C4), C4_DOCUMENTS):
        yield json.dumps(dict(text=row["text"]), ensure_ascii=False) + "\n"


def write(path, lines):
    """Writes the file, unless it exists. It gets its name only when it is complete."""
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8", newline="\n") as f:
        f.writelines(lines)
    os.replace(path + ".part", path)


def fetch(service, folder):
    write(f"{folder}/wikitext2/wiki.valid.raw", wikitext(service, "validation"))
    write(f"{folder}/wikitext2/wiki.test.raw", wikitext(service, "test"))
    write(f"{folder}/c4/c4.jsonl", c4(service))


def print_addresses(service, folder):
    for name, split in (("valid", "validation"), ("test", "test")):
        print_origin(f"{folder}/wikitext2/wiki.{name}.raw", address(service, *WIKITEXT, split),
                     f"and the following pages: {WIKITEXT_LINES[split]} lines, the member text of each row")
    print_origin(f"{folder}/c4/c4.jsonl", address(service, *C4),
                 f"and the following pages: {C4_DOCUMENTS} documents; any JSON Lines with a member text will do")


def main():
    if sys.argv[1] == "--addresses":
        print_addresses(os.environ["HUB_ROWS"], sys.argv[2])
        return
    try:
        fetch(os.environ["HUB_ROWS"], sys.argv[1])
    except urllib.error.HTTPError as e:
        sys.exit(f"fetch-data: text: {e}")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
        print(f"fetch-data: text: {e}", file=sys.stderr)
        sys.exit(69)


if __name__ == "__main__":
    main()
