"""HTML pieces. Every text of a run goes through html.escape: agents write what they like."""
import base64
import html
import io
import json
from pathlib import Path

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
PRE_LIMIT = 40000


def e(value):
    return html.escape(str(value))


def pre(text):
    """Long texts are cut: the file in the run directory has all."""
    cut = f"\n... ({len(text) - PRE_LIMIT} more characters in the run directory)" if len(text) > PRE_LIMIT else ""
    return f"<pre>{e(text[:PRE_LIMIT] + cut)}</pre>"


def as_json(value):
    return pre(json.dumps(value, indent=2, ensure_ascii=False))


def details(summary, body, kind=""):
    return f'<details{f" class={kind}" if kind else ""}><summary>{e(summary)}</summary>{body}</details>'


def section(title, body):
    return f"<section><h2>{e(title)}</h2>{body}</section>" if body else ""


def picture(p):
    """The figure as SVG inside the page."""
    buffer = io.BytesIO()
    p.figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return (f"<figure><figcaption>{e(p.title)}</figcaption><p class=caption>{e(p.caption)}</p>"
            f'<img src="data:image/svg+xml;base64,{data}" alt="{e(p.title)}"></figure>')


def page(title, subtitle, sections):
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{e(title)}</title><style>{STYLE}</style></head>'
            f'<body><h1>{e(title)}</h1><p class=sub>{e(subtitle)}</p>{"".join(sections)}</body></html>\n')
