# SPDX-License-Identifier: Apache-2.0
"""Renders the templates of templates/ to one self-contained page.

Agents write what they like into a run directory, so every value is untrusted. Jinja2 escapes each value that a template
prints; neither a template nor Python code may mark a value as safe (`safe`, `Markup`).
"""
import base64
import io
import json
from collections import namedtuple
from pathlib import Path

import jinja2

from pictures import style
from results.formats import format_percent
from rundata.files import number

PREFORMATTED_LIMIT = 40000  # characters of one text; a page of a long dialogue must still open in a browser

Drawing = namedtuple("Drawing", "title caption svg_base64")


def cut(text):
    """The beginning of a long text; the file in the run directory has all of it."""
    if len(text) <= PREFORMATTED_LIMIT:
        return text
    return f"{text[:PREFORMATTED_LIMIT]}\n... ({len(text) - PREFORMATTED_LIMIT} more characters in the run directory)"


def as_json(value):
    return json.dumps(value, indent=2, ensure_ascii=False)


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,                    # for every template, whatever its name ends in
    undefined=jinja2.StrictUndefined,   # a misspelt name is an error instead of an empty place
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
TEMPLATES.filters.update(as_json=as_json, cut=cut, number=number, percent=format_percent)


def draw(pictures):
    """Drawings of the pictures. Each figure is closed before the next is made: matplotlib keeps all open ones."""
    drawings = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None})  # without a date: same input, same bytes
        style.close(picture.figure)
        drawings.append(Drawing(picture.title, picture.caption, base64.b64encode(buffer.getvalue()).decode()))
    return drawings


def render(template, **values):
    return TEMPLATES.get_template(template).render(**values)
