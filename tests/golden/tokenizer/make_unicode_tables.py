#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/tokenizer/unicode_tables.h: where the Unicode versions inside `tokenizers` differ from our libraries'.

Run with CPython 3.11, whose unicodedata is Unicode 14.0, the version of the oldest PCRE2 that espalier is built with:

    pip install -r requirements.txt
    python3.11 make_unicode_tables.py > ../../../src/tokenizer/unicode_tables.h

Every table is measured: the library is asked about every code point, and what it says is compared with unicodedata.
"""
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
ALL = [c for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, ALL))
CATEGORY = {c: unicodedata.category(chr(c)) for c in ALL}

# category -> (3-byte proxy, 4-byte proxy): old characters of that category that no common pattern names
PROXY = {
    "Han": (0x4E00, 0x20000), "Lu": (0xA722, 0x10400), "Ll": (0xA723, 0x10428), "Lm": (0xA788, 0x16F93),
    "Lo": (0xA840, 0x10000), "Nd": (0xA620, 0x104A0), "No": (0xA830, 0x10107), "Mn": (0x1DC0, 0x10A01),
    "Mc": (0x0903, 0x11000), "P": (0x1B5A, 0x10100), "S": (0x2400, 0x1F300), "Cf": (0x200B, 0x110BD),
}
# Shorter runs of code points that NFC keeps are not worth a step of the search; missing ones only cost time.
NFC_SHORTEST_RUN = 32


def library_class(prop):
    rest = set(map(ord, normalizers.Replace(Regex(r"\p{%s}" % prop), "").normalize_str(TEXT)))
    return {c for c in ALL if c not in rest}


def cut_by(pre_tokenizer, pieces):
    """Code points that make `pieces` pieces of a text where they stand between two letters."""
    return {c for c in ALL if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == pieces}


def runs(items):
    out = []
    for c in sorted(items):
        key = items[c] if isinstance(items, dict) else 0
        if out and out[-1][1] == c - 1 and out[-1][2] == key:
            out[-1][1] = c
        else:
            out.append([c, c, key])
    return out


def new_categories():
    """Code points that Oniguruma's Unicode assigns and Unicode 14 does not, with their category."""
    new = {c for c in ALL if CATEGORY[c] == "Cn"} - library_class("Cn")
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


def norm_inert(new):
    inert = {c for c in ALL if inert_in_library(c)}
    for c in list(inert):  # what a composition unknown to the library ends in
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            inert.add(int(parts[1], 16))
    return inert | set(new)


def lower_offsets():
    """c -> lower(c) - c, where the library's lower case is not Unicode 14's."""
    out = {}
    for c in ALL:
        lower = normalizers.Lowercase().normalize_str(chr(c))
        if lower != chr(c).lower():
            out[c] = ord(lower) - c
    return out


def nfc_keeps():
    """Runs of starters in composed form that never join what precedes them."""
    joins = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # Hangul vowels and trailing consonants
    for c in ALL:
        parts = unicodedata.decomposition(chr(c)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            joins.add(int(parts[1], 16))
    keeps = {c for c in [0] + ALL if c not in joins and unicodedata.combining(chr(c)) == 0
             and unicodedata.normalize("NFC", chr(c)) == chr(c)}
    return [run for run in runs(keeps) if run[1] - run[0] + 1 >= NFC_SHORTEST_RUN]


def print_table(name, rows, comment):
    print("\n/* " + comment.replace("\n", "\n * ") + " */")
    print(f"static const unicode_range {name}[] = {{")
    for lo, hi, value in rows:
        print(f"    {{0x{lo:X}, 0x{hi:X}, {f'0x{value:X}' if value > 0 else value}}},")
    print("};")


def main():
    new = new_categories()
    proxy = {c: PROXY[cat][c > 0xFFFF] for c, cat in new.items()}
    proxy[0x180E] = 0x200B  # PCRE2's \s has it, Oniguruma's (Unicode White_Space) does not
    proxy = runs(proxy)
    gap = max(zip(proxy, proxy[1:]), key=lambda pair: (pair[1][0] < 0x10000) * (pair[1][0] - pair[0][1]))

    numeric = cut_by(pre_tokenizers.Digits(individual_digits=True), 3)
    assert all(c in numeric for c in ALL if CATEGORY[c][0] == "N")
    punct = {c for c in cut_by(pre_tokenizers.Punctuation(), 3) if c >= 0x80}
    punct_now = {c for c in ALL if c >= 0x80 and CATEGORY[c][0] == "P"}
    known = {c for c in ALL if CATEGORY[c] != "Cn"}
    word = cut_by(pre_tokenizers.Whitespace(), 1) & known
    word_now = {c for c in ALL if CATEGORY[c][0] in "LM" or CATEGORY[c] in ("Nd", "Nl", "Pc")}
    assert word_now <= word

    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Made by tests/golden/tokenizer/make_unicode_tables.py; do not edit. Included by unicode.c alone. */")
    print("#ifndef ESPL_TOKENIZER_UNICODE_TABLES_H\n#define ESPL_TOKENIZER_UNICODE_TABLES_H\n")
    print("#include <stdint.h>\n")
    print("/* clang-format off */")
    print("typedef struct unicode_range { int32_t lo, hi, value; } unicode_range;")
    print_table("proxies", proxy,
                "A code point that PCRE2 (Unicode 14) and Oniguruma (Unicode 16) classify differently, and an old one of the\n"
                "category that Oniguruma gives it.")
    print("/* The widest part of the first plane without a proxy, with most of CJK: needs no search. */")
    print(f"enum {{ PROXY_GAP_FIRST = 0x{gap[0][1] + 1:X}, PROXY_GAP_LAST = 0x{gap[1][0] - 1:X} }};")
    print_table("norm_inert", runs(norm_inert(new)),
                "Code points without properties in the Unicode version (9) of the library's normaliser.")
    print_table("nfc_keeps", nfc_keeps(),
                "Code points that NFC leaves alone unless something outside these ranges follows: starters in composed form\n"
                f"that never join what precedes them. Runs of {NFC_SHORTEST_RUN} and more; what is missing only costs time.")
    print_table("white_space", runs(cut_by(pre_tokenizers.WhitespaceSplit(), 2)), "White_Space.")
    print_table("numeric_added", runs({c for c in numeric if CATEGORY[c][0] != "N"} - {c for c in new if new[c][0] == "N"}),
                "Numeric in the library (Rust: Unicode 17), newer than any proxy.")
    print_table("punct_dropped", runs(punct_now - punct),
                "Punctuation in Unicode 14, but not in the library: its crate unicode_categories is of Unicode 8.")
    print_table("punct_added", runs(punct - punct_now), "Punctuation in Unicode 8, and in the library, but not in Unicode 14.")
    print_table("word_symbols", runs(word - word_now - {0x200C, 0x200D}),
                "Alphabetic symbols: characters of words beside L, M, Nd, Nl and Pc.")
    print_table("lower_added", runs(lower_offsets()),
                "Pairs of cases newer than Unicode 14: lower case is the code point + value.")
    print("/* clang-format on */")
    print("\n#endif")


main()
