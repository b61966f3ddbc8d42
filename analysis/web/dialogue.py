# SPDX-License-Identifier: Apache-2.0
"""The dialogue with the agent (dialogue.jsonl) and the outcomes (events.jsonl), iteration by iteration."""
import math
from dataclasses import dataclass

from results.formats import format_percent
from rundata import methods
from rundata.files import member, number, text, whole

from .page import as_json


@dataclass
class Paragraph:
    """A label and a text; either may be empty. `form` is how the template shows the text."""
    label: str
    text: str = ""
    form: str = ""  # "said", "steps" (classes of style.css), "preformatted"; empty: no text


@dataclass
class Entry:
    """One line of the dialogue. An entry with a summary is folded behind it."""
    paragraphs: list
    summary: str = ""


@dataclass
class Iteration:
    headline: str
    rolled_back: bool
    entries: list


def request_entry(line):
    """What was sent: the conversation of a chat request, or the JSON of any other body."""
    said = member(line, "body", "messages")
    if isinstance(said, list):
        paragraphs = [Paragraph(text(member(m, "role"), "?"),
                                text(member(m, "content")) or repr(member(m, "content")), "preformatted") for m in said]
    else:
        paragraphs = [Paragraph("", as_json(line.get("body")), "preformatted")]
    return Entry(paragraphs, f"request, attempt {whole(line.get('attempt'))}")


def reply_entry(line):
    summary = (f"reply, HTTP {whole(line.get('http'))}, {number(line.get('seconds')):.1f} s, "
               f"{whole(line.get('prompt_tokens'))} + {whole(line.get('completion_tokens'))} tokens")
    return Entry([Paragraph("", text(line.get("text")), "preformatted")], summary)


def remark_entry(line):
    """A short line: error, retry, invalid, fallback or repair."""
    told = text(line.get("error")) or text(line.get("text"))
    if line.get("type") == "retry":
        told = f"after {whole(line.get('wait_ms'))} ms"
    return Entry([Paragraph(line["type"], told, "said")])


def steps(prune):
    """The steps of a decision: "layers.0.mlp.up_proj +10.00 %, layers.1.mlp.up_proj 2:4"."""
    if not isinstance(prune, dict):
        return ""
    return ", ".join(f"{name} {step if methods.n_m(text(step)) else '+' + format_percent(number(step), 2)}"
                     for name, step in prune.items())


def decision_entry(line):
    decision = line.get("decision") if isinstance(line.get("decision"), dict) else {}
    paragraphs = [Paragraph(key, decision[key], "said") for key in ("reflection", "reasoning")
                  if text(decision.get(key))]
    notes = line.get("notes")
    if notes:
        paragraphs.append(Paragraph("notes", notes if isinstance(notes, str) else repr(notes), "said"))
    if decision.get("stop") is True:
        paragraphs.append(Paragraph("the agent ends the run"))
    listed = steps(decision.get("prune"))
    if listed:
        paragraphs.append(Paragraph("", listed, "steps"))
    return Entry(paragraphs)


ENTRIES = {"request": request_entry, "reply": reply_entry, "decision": decision_entry, "error": remark_entry,
           "retry": remark_entry, "invalid": remark_entry, "fallback": remark_entry,
           "repair": remark_entry}


def headline(iteration, row):
    """Summary of an iteration: verdict, sparsity, perplexity, source of the decision. `row` is its outcome or None."""
    if row is None:
        return f"{iteration}: no outcome"
    change = format_percent(row.after / row.before - 1, 2, sign=True) if row.before > 0 else "–"
    value = f"{row.after:.4f} ({change})" if math.isfinite(row.after) else "not finite"
    verdict = "accepted" if row.accepted else "rolled back"
    source = f" · {row.source}" if row.source else ""
    return (f"{iteration}: {verdict} · {format_percent(row.sparsity_before)} → {format_percent(row.sparsity_after)} · "
            f"perplexity {value}{source}")


def iterations(run):
    """Every iteration that has a dialogue or an outcome. Without a dialogue, the outcome repeats the decision."""
    lines, rows = {}, {row.iteration: row for row in run.outcomes.itertuples()}
    for line in (line for line in run.dialogue if text(line.get("type")) in ENTRIES):
        lines.setdefault(whole(line.get("iteration")), []).append(line)
    found = []
    for i in sorted(set(lines) | set(rows)):
        row = rows.get(i)
        said = lines.get(i) or [{"type": "decision", "decision": {"reasoning": row.reasoning,
                                                                  "reflection": row.reflection, "prune": row.steps}}]
        entries = [ENTRIES[text(line.get("type"))](line) for line in said]
        found.append(Iteration(headline(i, row), row is not None and not row.accepted, entries))
    return found
