# SPDX-License-Identifier: Apache-2.0
"""Downloads WikiText-2 (raw) and a part of C4 row by row from the Hugging Face hub.

usage: text.py DIR       HUB_ROWS: address of the hub's rows service
DIR/wikitext2/wiki.{valid,test}.raw   DIR/c4/c4.jsonl       Exit 69: the service is unreachable.
"""
import itertools
import json
import os
import sys
import urllib.error

from choices import rows

C4_DOCUMENTS = 2000  # about a million tokens, four times the largest calibration set of configs/


def wikitext(service, split):
    """Yields the lines of the published file. In the hub's rows, blank lines are empty strings."""
    for row in rows(service, "Salesforce/wikitext", "wikitext-2-raw-v1", split):
        yield row["text"] or " \n"


def c4(service):
    for row in itertools.islice(rows(service, "allenai/c4", "en", "validation"), C4_DOCUMENTS):
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


def main():
    try:
        fetch(os.environ["HUB_ROWS"], sys.argv[1])
    except urllib.error.HTTPError as e:
        sys.exit(f"fetch-data: text: {e}")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
        print(f"fetch-data: text: {e}", file=sys.stderr)
        sys.exit(69)


if __name__ == "__main__":
    main()
