"""dialogue.jsonl and the outcomes, iteration by iteration."""
import math

from rundata import methods
from rundata.files import member, number, text, whole
from results.layout import percent

from . import page
from .page import e


def messages(body):
    """What was sent to an endpoint: the conversation, or whatever it was."""
    said = member(body, "messages")
    if not isinstance(said, list):
        return page.as_json(body)
    return "".join(f"<p class=who>{e(text(member(m, 'role'), '?'))}</p>"
                   + page.pre(text(member(m, "content")) or repr(member(m, "content"))) for m in said)


def request(line):
    return page.details(f"request, attempt {whole(line.get('attempt'))}", messages(line.get("body")))


def reply(line):
    head = (f"reply, HTTP {whole(line.get('http'))}, {number(line.get('seconds')):.1f} s, "
            f"{whole(line.get('prompt_tokens'))} + {whole(line.get('completion_tokens'))} tokens")
    return page.details(head, page.pre(text(line.get("text"))))


def remark(line):
    """error, retry, invalid, fallback: short lines."""
    told = text(line.get("error")) or text(line.get("text"))
    if line.get("type") == "retry":
        told = f"after {whole(line.get('wait_ms'))} ms"
    return f"<p class=who>{e(line.get('type'))}</p><p class=said>{e(told)}</p>"


def steps(prune):
    if not isinstance(prune, dict) or not prune:
        return ""
    listed = ", ".join(f"{e(name)} {step if methods.n_m(text(step)) else '+' + percent(number(step), 2)}"
                       for name, step in prune.items())
    return f"<p class=steps>{listed}</p>"


def decision(line):
    d = line.get("decision") if isinstance(line.get("decision"), dict) else {}
    parts = [f"<p class=who>{label}</p><p class=said>{e(d[key])}</p>" for key, label in
             (("reflection", "reflection"), ("reasoning", "reasoning")) if text(d.get(key))]
    notes = line.get("notes")
    if notes:
        parts.append(f"<p class=who>notes</p><p class=said>{e(notes if isinstance(notes, str) else repr(notes))}</p>")
    if d.get("stop") is True:
        parts.append("<p class=who>the agent ends the run</p>")
    return "".join(parts) + steps(d.get("prune"))


WRITERS = {"request": request, "reply": reply, "decision": decision, "error": remark, "retry": remark,
           "invalid": remark, "fallback": remark}


def headline(iteration, row):
    if row is None:
        return f"{iteration}: no outcome"
    change = percent(row.after / row.before - 1, 2, sign=True) if row.before > 0 else "–"
    value = f"{row.after:.4f} ({change})" if math.isfinite(row.after) else "not finite"
    verdict = "accepted" if row.accepted else "rolled back"
    source = f" · {row.source}" if row.source else ""
    return (f"{iteration}: {verdict} · {percent(row.sparsity_before)} → {percent(row.sparsity_after)} · perplexity "
            f"{value}{source}")


def from_outcome(row):
    """A decision line for iterations of which the dialogue has none."""
    return {"type": "decision",
            "decision": {"reasoning": row.reasoning, "reflection": row.reflection, "prune": row.steps}}


def iterations(run):
    lines, rows = {}, {row.iteration: row for row in run.outcomes.itertuples()}
    for line in run.dialogue:
        lines.setdefault(whole(line.get("iteration")), []).append(line)
    parts = []
    for i in sorted(set(lines) | set(rows)):
        row = rows.get(i)
        said = lines.get(i) or [from_outcome(row)]
        body = "".join(WRITERS[line["type"]](line) for line in said if line.get("type") in WRITERS)
        parts.append(page.details(headline(i, row), body, "" if row is None or row.accepted else "back"))
    return "".join(parts)
