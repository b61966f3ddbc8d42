#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.h: where the Unicode versions inside `tokenizers` differ from our libraries'.

Run with CPython 3.11, whose unicodedata is Unicode 14.0, the version of the oldest PCRE2 that espalier is built with:

    python3.11 make_unicode_tables.py > ../../../src/tokenizer/unicode_tables.h
"""
import unicodedata

from tokenizers import Regex, normalizers

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
ALL = [c for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, ALL))

# category -> (3-byte proxy, 4-byte proxy): old characters of that category that no common pattern names
PROXY = {
    "Han": (0x4E00, 0x20000), "Lu": (0xA722, 0x10400), "Ll": (0xA723, 0x10428), "Lm": (0xA788, 0x16F93),
    "Lo": (0xA840, 0x10000), "Nd": (0xA620, 0x104A0), "No": (0xA830, 0x10107), "Mn": (0x1DC0, 0x10A01),
    "Mc": (0x0903, 0x11000), "P": (0x1B5A, 0x10100), "S": (0x2400, 0x1F300), "Cf": (0x200B, 0x110BD),
}


def library_class(prop):
    rest = set(map(ord, normalizers.Replace(Regex(r"\p{%s}" % prop), "").normalize_str(TEXT)))
    return {c for c in ALL if c not in rest}


def runs(items):
    out = []
    for c in sorted(items):
        key = items[c] if isinstance(items, dict) else None
        if out and out[-1][1] == c - 1 and out[-1][2] == key:
            out[-1][1] = c
        else:
            out.append([c, c, key])
    return out


def new_categories():
    """Code points that Oniguruma's Unicode assigns and Unicode 14 does not, with their category."""
    new = {c for c in ALL if unicodedata.category(chr(c)) == "Cn"} - library_class("Cn")
    out = {}
    for cat in PROXY:
        for c in new & library_class(cat):
            out.setdefault(c, cat)
    assert new == set(out)
    return out


def inert_in_library(c):
    """True when Unicode 14 gives c a combining class or a decomposition that the library's normaliser lacks."""
    ch, ccc = chr(c), unicodedata.combining(chr(c))
    if ccc > 1 and normalizers.NFD().normalize_str("a" + ch + "\u0334") == "a" + ch + "\u0334":
        return True
    if ccc == 1 and normalizers.NFD().normalize_str("a\u0301" + ch) == "a\u0301" + ch:
        return True
    return bool(unicodedata.decomposition(ch)) and normalizers.NFKD().normalize_str(ch) == ch


def main():
    new = new_categories()
    inert = {c for c in ALL if inert_in_library(c)}
    for c in list(inert):  # what a composition unknown to the library ends in
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            inert.add(int(parts[1], 16))
    inert |= set(new)
    proxy = {c: PROXY[cat][c > 0xFFFF] for c, cat in new.items()}
    proxy[0x180E] = 0x200B  # PCRE2's \s has it, Oniguruma's (Unicode White_Space) does not
    print("/* Made by tests/golden/tokenizer/make_unicode_tables.py; do not edit. */")
    print("/* clang-format off */")
    print("/* A code point that PCRE2 (Unicode 14) and Oniguruma (Unicode 16) classify differently, and an old one of the")
    print(" * category that Oniguruma gives it. */")
    print("static const struct { int32_t lo, hi, proxy; } proxies[] = {")
    for lo, hi, p in runs(proxy):
        print("    {0x%X, 0x%X, 0x%X}," % (lo, hi, p))
    print("};")
    print("/* Code points without properties in the Unicode version (9) of the library's normaliser. */")
    print("static const struct { int32_t lo, hi; } norm_inert[] = {")
    for lo, hi, _ in runs(inert):
        print("    {0x%X, 0x%X}," % (lo, hi))
    print("};")
    print("/* clang-format on */")


main()
