# SPDX-License-Identifier: Apache-2.0
"""Numbers as the tables and pages print them: "–" for what was not measured, a true minus sign, no negative zero."""
import math


def format_number(value, decimals=1, sign=False):
    """"−0.70"; "–" for NaN; never "−0.0"."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, decimals) + 0.0:{'+' if sign else ''}.{decimals}f}".replace("-", "−")


def format_percent(value, decimals=1, sign=False):
    """A fraction in percent: "45.0 %"."""
    return format_number(100 * value, decimals, sign) + (" %" if math.isfinite(value) else "")


def format_perplexity(mean, sd=math.nan):
    """"4.178 ± 0.012" with four significant digits where the integer part has fewer; no sd if it is NaN or zero."""
    if not math.isfinite(mean):
        return format_number(mean)
    if mean >= 1e6:
        return f"{mean:.2g}"
    decimals = max(0, 3 - int(math.floor(math.log10(max(mean, 1)))))
    varies = math.isfinite(sd) and sd > 1e-9 * mean  # equal values differ by rounding only
    return f"{mean:.{decimals}f}" + (f" ± {sd:.{decimals}f}" if varies else "")


def format_interval(low, high, write):
    """"[low, high]", each bound printed by `write`; empty if there is no interval."""
    return f"[{write(low)}, {write(high)}]" if not (math.isnan(low) or math.isnan(high)) else ""


def format_with_interval(value, low, high, write):
    """"+0.70 [−0.92, +2.32]"; "–" if there is no value."""
    return f"{write(value)} {format_interval(low, high, write)}".strip() if not math.isnan(value) else "–"


def format_rate(rate, low, high):
    """A proportion with its interval, in percent: "95.8 [93.8, 97.2]"."""
    return format_with_interval(rate, low, high, lambda v: f"{100 * v:.1f}")
