# SPDX-License-Identifier: Apache-2.0
"""A table as Markdown, LaTeX and CSV; web/templates/parts.html shows it as HTML."""
from dataclasses import dataclass, field

import pandas as pd

TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$",
       "∞": r"$\infty$", "†": r"\dag{}", "→": r"$\to$", "<": r"$<$", ">": r"$>$",
       "∗": r"$^{*}$", "‡": r"\ddag{}"}


@dataclass
class Table:
    name: str   # of its files, without the ending
    title: str
    headers: list
    rows: list  # lists of strings, as long as headers; an empty list draws a line
    data: pd.DataFrame = field(default_factory=pd.DataFrame)  # the unrounded numbers, for CSV
    notes: list = field(default_factory=list)
    left: int = 1  # number of leading columns of text, aligned left; the others hold numbers
    bold: set = field(default_factory=set)  # (row, column) of the cells that stand out


def tex(text):
    """The text with everything escaped that LaTeX would interpret or may lack a glyph for."""
    return "".join(TEX.get(c, c) for c in text)


def markdown(table):
    """The table as Markdown, which has no lines between rows; the notes follow below it."""
    def line(cells):
        return "| " + " | ".join(c.replace("|", r"\|").replace("\n", " ") for c in cells) + " |"

    lines = [f"**{table.title}**", "", line(table.headers),
             "|" + "---|" * table.left + "---:|" * (len(table.headers) - table.left)]
    lines += [line([f"**{c}**" if (i, k) in table.bold else c for k, c in enumerate(row)])
              for i, row in enumerate(table.rows) if row]
    lines += ["", *(f"{note}  " for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def latex(table):
    """A table* for the package booktabs, with a label and the notes below it in small print."""
    def cell(i, k, text):
        return rf"\textbf{{{tex(text)}}}" if (i, k) in table.bold else tex(text)

    lines = [r"\begin{table*}", r"\centering\small", rf"\caption{{{tex(table.title)}}}", rf"\label{{tab:{table.name}}}",
             r"\begin{tabular}{" + "l" * table.left + "r" * (len(table.headers) - table.left) + "}", r"\toprule",
             " & ".join(map(tex, table.headers)) + r" \\", r"\midrule"]
    lines += [" & ".join(cell(i, k, c) for k, c in enumerate(row)) + r" \\" if row else r"\midrule"
              for i, row in enumerate(table.rows)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {tex(note)}" for note in table.notes]
    return "\n".join(lines + [r"\end{table*}"]) + "\n"


def write(table, folder):
    """Writes NAME.md, NAME.tex and NAME.csv."""
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")
    table.data.to_csv(folder / f"{table.name}.csv", index=False, float_format="%.10g")
