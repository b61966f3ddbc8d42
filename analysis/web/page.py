"""HTML pieces. Every text of a run goes through html.escape: agents write what they like."""
import base64
import html
import io
import json

STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1040px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}
h3{font-size:1.02rem;margin:1.4rem 0 .2rem}.sub{color:#555;margin:.2rem 0 1rem}.note{color:#555;font-size:.82rem;margin:.25rem 0}
figure{margin:.4rem 0 1.6rem}figure img{width:100%;height:auto}figcaption{font-weight:600;font-size:.95rem;margin-bottom:.3rem}
p.caption{color:#555;font-size:.88rem;margin:.1rem 0 .3rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .6rem;vertical-align:top}th{border-bottom:1.5px solid #222;vertical-align:bottom}
td{border-bottom:1px solid #eee}tr.rule td{border-top:2px solid #777}.left{text-align:left}.right{text-align:right}
td.right,td.left:first-child{white-space:nowrap}
details{border:1px solid #ddd;border-radius:4px;margin:.35rem 0;padding:.1rem .7rem}summary{cursor:pointer;padding:.25rem 0}
details[open]>summary{border-bottom:1px solid #eee;margin-bottom:.4rem}
.back>summary{background:#fdeee4;margin:-.1rem -.7rem;padding:.35rem .7rem}
pre{background:#f6f6f6;padding:.6rem;font-size:.78rem;line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere;max-height:32rem;overflow-y:auto}
.who{font-weight:600;font-size:.85rem;margin:.6rem 0 .1rem}.said{margin:.1rem 0 .5rem;white-space:pre-wrap;overflow-wrap:anywhere}
.steps{font-size:.84rem;color:#333}@media print{details{break-inside:avoid}pre{max-height:none}}
"""
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
            f'content="width=device-width, initial-scale=1"><title>{e(title)}</title><style>{STYLE}</style></head><body>'
            f'<h1>{e(title)}</h1><p class=sub>{e(subtitle)}</p>{"".join(sections)}</body></html>\n')
