"""A table as Markdown, LaTeX and CSV; web/templates/parts.html shows it as HTML."""
import math
from dataclasses import dataclass, field

import pandas as pd

TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$",
       "∞": r"$\infty$", "†": r"\dag{}", "→": r"$\to$", "<": r"$<$", ">": r"$>$"}


@dataclass
class Table:
    name: str   # of its files
    title: str
    headers: list
    rows: list  # of lists of texts, as long as headers; an empty list draws a line
    data: pd.DataFrame = field(default_factory=pd.DataFrame)  # the same in full, for CSV
    notes: list = field(default_factory=list)
    left: int = 1  # columns of text, aligned left; the rest is numbers


def tex(text):
    return "".join(TEX.get(c, c) for c in text)


def cell(text):
    return text.replace("|", r"\|").replace("\n", " ")


def markdown(table):
    lines = [f"**{table.title}**", "", "| " + " | ".join(map(cell, table.headers)) + " |",
             "|" + "---|" * table.left + "---:|" * (len(table.headers) - table.left)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.rows if row]
    lines += ["", *(f"{note}  " for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def latex(table):
    """A table* for booktabs; the notes below in small print."""
    lines = [r"\begin{table*}", r"\centering\small", rf"\caption{{{tex(table.title)}}}",
             r"\begin{tabular}{" + "l" * table.left + "r" * (len(table.headers) - table.left) + "}", r"\toprule",
             " & ".join(map(tex, table.headers)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(tex, row)) + r" \\" if row else r"\midrule" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {tex(note)}" for note in table.notes]
    return "\n".join(lines + [r"\end{table*}"]) + "\n"


def write(table, folder):
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")
    table.data.to_csv(folder / f"{table.name}.csv", index=False, float_format="%.10g")


# ------------------------------------------------------------------ numbers


def digits(value, n=1, sign=False):
    """"−0.70"; "–" for NaN; never "−0.0"."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, n) + 0.0:{'+' if sign else ''}.{n}f}".replace("-", "−")


def decimals(value):
    """How many of them give four digits that matter, between 0 and 3."""
    return max(0, 3 - int(math.floor(math.log10(max(value, 1)))))


def perplexity(mean, sd=math.nan):
    """"4.178 ± 0.012"; without sd where there is none, or nothing differs."""
    if not math.isfinite(mean) or mean >= 1e6:
        return f"{mean:.2g}" if math.isfinite(mean) else digits(mean)
    n = decimals(mean)
    return f"{mean:.{n}f}" + (f" ± {sd:.{n}f}" if math.isfinite(sd) and sd > 1e-9 * mean else "")


def percent(value, n=1, sign=False):
    return digits(100 * value, n, sign) + (" %" if math.isfinite(value) else "")


def interval(low, high, write):
    return f"[{write(low)}, {write(high)}]" if not (math.isnan(low) or math.isnan(high)) else ""


def rate(value, low, high):
    """"95.8 [93.8, 97.2]", percent."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} {interval(low, high, lambda v: f'{100 * v:.1f}')}"
