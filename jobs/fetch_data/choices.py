# SPDX-License-Identifier: Apache-2.0
"""Downloads multiple-choice sets row by row from the Hugging Face hub, as JSON Lines for `espalier eval --choices`.

usage: choices.py DIR [task...]       HUB_ROWS: address of the hub's rows service
       choices.py --addresses DIR     prints where each file comes from and belongs
The contexts are those of the tasks of the same names in lm-evaluation-harness. Exit 69: the service is unreachable.
"""
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

PAGE = 100  # rows per request, the most that the service allows


def arc(row):
    labels = row["choices"]["label"]
    return dict(context=f"Question: {row['question']}\nAnswer:", choices=row["choices"]["text"],
                answer=labels.index(row["answerKey"]))


def hellaswag_text(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub("\\[.*?\\]", "", text).replace("  ", " ")


def hellaswag(row):
    context = row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize()
    return dict(context=hellaswag_text(context), choices=[hellaswag_text(e) for e in row["endings"]],
                answer=int(row["label"]))


def piqa(row):
    return dict(context=f"Question: {row['goal']}\nAnswer:", choices=[row["sol1"], row["sol2"]], answer=row["label"])


def winogrande(row):
    before, after = row["sentence"].split("_", 1)
    return dict(context=[before + row["option1"], before + row["option2"]], choices=[after.strip()] * 2,
                answer=int(row["answer"]) - 1)


def boolq(row):
    return dict(context=f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:", choices=["no", "yes"],
                answer=int(row["label"]))


# task: data set, configuration, split, number of questions, conversion
TASKS = {
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy", "test", 2376, arc),
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge", "test", 1172, arc),
    "hellaswag": ("Rowan/hellaswag", "default", "validation", 10042, hellaswag),
    "piqa": ("baber/piqa", "default", "validation", 1838, piqa),
    "winogrande": ("allenai/winogrande", "winogrande_xl", "validation", 1267, winogrande),
    "boolq": ("aps/super_glue", "boolq", "validation", 3270, boolq),
}


def address(service, dataset, config, split, offset=0):
    query = urllib.parse.urlencode(dict(dataset=dataset, config=config, split=split, offset=offset, length=PAGE), safe="/")
    return f"{service}?{query}"


def print_origin(path, url, remark):
    """One file of a listing: where it belongs, where it comes from, and how to tell that it is complete."""
    print(f"{path}\n    {url}\n    {remark}")


def page(service, dataset, config, split, offset):
    with urllib.request.urlopen(address(service, dataset, config, split, offset), timeout=60) as reply:
        return json.load(reply)


def rows(service, dataset, config, split):
    """Yields all rows of a split, requesting them in pages."""
    offset, total = 0, 1
    while offset < total:
        answer = page(service, dataset, config, split, offset)
        total = answer["num_rows_total"]
        if not answer["rows"]:
            raise ValueError(f"{dataset}: the service ends after {offset} of {total} rows")
        if any(item.get("truncated_cells") for item in answer["rows"]):
            raise ValueError(f"{dataset}: the service cuts long rows off")
        yield from (item["row"] for item in answer["rows"])
        offset += len(answer["rows"])


def fetch(service, folder, task):
    """Writes folder/TASK.jsonl, unless it exists. The file gets its name only when it is complete."""
    dataset, config, split, expected, convert = TASKS[task]
    path = os.path.join(folder, task + ".jsonl")
    if os.path.exists(path):
        return
    with open(path + ".part", "w", encoding="utf-8") as f:
        n = 0
        for row in rows(service, dataset, config, split):
            f.write(json.dumps(convert(row), ensure_ascii=False) + "\n")
            n += 1
    if n != expected:
        sys.exit(f"fetch-data: {task}: {n} questions in {dataset}, expected {expected}: the data set has changed")
    os.replace(path + ".part", path)


def print_addresses(service, folder):
    for task, (dataset, config, split, expected, _) in TASKS.items():
        print_origin(os.path.join(folder, task + ".jsonl"), address(service, dataset, config, split),
                     f"and the following pages: {expected} questions, converted as docs/evaluation.md says")


def main():
    if sys.argv[1] == "--addresses":
        print_addresses(os.environ["HUB_ROWS"], sys.argv[2])
        return
    folder, tasks = sys.argv[1], sys.argv[2:] or list(TASKS)
    for task in tasks:
        try:
            fetch(os.environ["HUB_ROWS"], folder, task)
        except urllib.error.HTTPError as e:
            sys.exit(f"fetch-data: {task}: {e}")
        except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
            print(f"fetch-data: {task}: {e}", file=sys.stderr)
            sys.exit(69)
        except (ValueError, KeyError) as e:
            sys.exit(f"fetch-data: {task}: not as expected: {e}")


if __name__ == "__main__":
    main()
