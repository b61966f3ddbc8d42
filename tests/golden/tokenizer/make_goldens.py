#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tokenizer goldens: small BPE models in the exact pipelines of the families that espalier supports, and the
results of the Hugging Face `tokenizers` library for texts.json. Run by developers:

    pip install -r requirements.txt && python make_goldens.py

Writes texts.json, <name>.tokenizer.json and <name>.golden.json ([ids, decoded, decoded without special tokens] per
text; null: the same as the text). U+F8FF stands for NUL in texts and decoded text.
"""
import hashlib
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
NUL = "\uf8ff"

PROSE = """The espalier is a tree trained flat against a wall, tier by tier; it's pruned every winter, and it'll bear
fruit where a gardener wouldn't expect it. We've measured 1234 branches in 2024, 56.7% of them longer than 89 cm.
def prune(weights, mask):\n\tfor i in range(len(weights)):\n\t\tweights[i] *= mask[i]  # keep\n\treturn weights
The cat sat on the mat. The dog didn't. They're here, I'm there, you'd think. "Quoted" (bracketed) [listed] {braced}.
Größe, façade, naïve, señor, Ελληνικά, русский язык, עברית, العربية, हिन्दी, 日本語の文章, 中文文本, 한국어 문장.
"""

TEXTS = [
    "", " ", "  ", "a", "Hello world", "Hello  world   again", " leading", "trailing ", "  both  ", "\n", "\n\n\n", "\t\tx",
    "line one\nline two\r\nline three\r\n\r\n", "a\n \n b \n\n  c", "x" + " " * 40 + "y", " " * 70, "\n" * 50 + "z",
    "def f(a, b):\n    if a > b:\n\treturn  a**2 - b  # done\n    else:\n        return None\n",
    "for (int i = 0; i < n; i++) { s += x[i] * y[i]; }  /* sum */", "{\"key\": [1, 2.5, null], \"b\": \"\\u00e9\"}",
    "I'll say it's what they've done; I'm sure you'd agree, we're 'd 's 't", "IT'S DON'T I'LL WE'VE THEY'RE I'M HE'D",
    "it\u2019s \u2018quoted\u2019 \u201cdouble\u201d", "'\u017f '\u212aS", "1 12 123 1234 12345 1234567890 3.14159 1,000,000",
    "\u0661\u0662\u0663 \u00b2\u00b3 \u00bd \u2167 \u0e51\u0e52 \uff11\uff12 \U0001d7d8", "caf\u00e9 cafe\u0301 \u00c5 A\u030a \u212b \u1e69 s\u0323\u0307 s\u0307\u0323",
    "\uac00 \u1100\u1161 \u1100\u1161\u11a8 \ud55c\uad6d\uc5b4", "\u304b\u3099 \u304c \uff76\uff9e \u30ab", "\u0915\u094d\u0937 \u0928\u093c \u0ba8\u0bbf",
    "\u0344 \u0958 \u2126 \ufb01 \u01c4 \u2460 \u337f", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u4e2d\u6587\uff0c\u6d4b\u8bd5\uff01", "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001fae8", "\u00a0nbsp\u00a0\u00a0x\u3000y\u2003z\u2028w\u0085v\u180eu\u200bt\ufefff",
    "\x01\x02\x1b[31m\x7f\x0b\x0c\x08", NUL + "a" + NUL + NUL, "\ue000\U0010ffff\ufffd\ufdd0", "\u0897\u1c89\u1c8a\U000105c0\U00010d40\U0002ebf0\U00016d70",
    "a" * 300, "ab" * 200, "\u00e9" * 120, "supercalifragilisticexpialidocious" * 8, "_" * 65 + "-" * 33 + "=" * 20,
    "<s>Hello</s>", "<|endoftext|>", "text<|endoftext|>text <|im_start|>user\nhi<|im_end|>\n", "<|begin_of_text|><|eot_id|>",
    "<unk><pad><0x41><0xE2>", "<s> <s>  </s>x</s>", "[INST] hi [/INST]", "<|endoftext", "<|im_start|><|im_start|>", "\u2581\u2581a \u2581b\u2581 c",
    "tok tokens mytok tok. (tok) TOK \u00c9tok tok\u0301", "  <strip>  x <strip>\n\n<left>  y  <left>z <right>  w<right>",
    "GARDEN garden Garden", "a-b--c---d", "the-final--countdown", "http://example.org/a?b=c&d=%20#e user@example.org", "$100 \u20ac50 \u00a330 5\u00d74\u00f72\u00b11",
    "\u0130stanbul \u01c5 \u1e9e \u03a3\u03c2 \u1c89 \ua7cb", PROSE,
]


# ------------------------------------------------------------------ components, as in published files

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"\p{N}| ", r"\p{N}{1,3}| ")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
DEEPSEEK = ["\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(regex, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: regex}, "behavior": behavior, "invert": invert}


def sequence(key, *items):
    return {"type": "Sequence", key: list(items)}


def pre(*items):
    return sequence("pretokenizers", *items)


def template(before, after=()):
    def token(name, type_id=0):
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [token(b) for b in before] + [text] + [token(a) for a in after]
    return {"type": "TemplateProcessing", "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": None}  # filled in later


METASPACE_OLD = sequence("normalizers", {"type": "Prepend", "prepend": "▁"},
                         {"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
LLAMA2_DECODER = sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                          {"type": "ByteFallback"}, {"type": "Fuse"},
                          {"type": "Strip", "content": " ", "start": 1, "stop": 0})


def metaspace(scheme="always", do_split=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": do_split}


def special(content, **kw):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **kw}


# ------------------------------------------------------------------ making a tokenizer

def train(normalizer, pre_tokenizer, size, alphabet=()):
    """Trains a BPE model for this pipeline. Returns (tokens in the order of their ids, merges)."""
    t = Tokenizer(models.BPE())
    shell = json.loads(t.to_str())
    shell.update(normalizer=normalizer, pre_tokenizer=pre_tokenizer)
    t = Tokenizer.from_str(json.dumps(shell))
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, initial_alphabet=list(alphabet))
    t.train_from_iterator([PROSE] * 4 + [x.replace(NUL, "\0") for x in TEXTS], trainer)
    model = json.loads(t.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def build(name, *, normalizer=None, pre_tokenizer=None, post=None, decoder=None, first=(), bytes_=False, added=(),
          last=(), size=700, tuples=True, **model):
    byte_alphabet = "ByteLevel" in json.dumps(pre_tokenizer)
    tokens, merges = train(normalizer, pre_tokenizer, size, pre_tokenizers.ByteLevel.alphabet() if byte_alphabet else ())
    if bytes_:  # a byte-fallback vocabulary has few characters as tokens
        keep = {c for c in tokens if len(c) == 1 and ord(c) < 0x250} | {"▁", "日", "中"}
        bad = {t for t in tokens if not set(t) <= keep}
        tokens = [t for t in tokens if t not in bad]
        merges = [m for m in merges if not {m[0], m[1], m[0] + m[1]} & bad]
    tokens = list(first) + ["<0x%02X>" % b for b in range(256)] * bytes_ + tokens
    vocab = {t: i for i, t in enumerate(tokens)}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": bytes_, "ignore_merges": False, **model,
             "vocab": vocab, "merges": merges if tuples else [" ".join(m) for m in merges]}
    ids = dict(vocab)
    for a in list(added) + list(last):
        ids.setdefault(a["content"], len(ids))
    for p in (post or {}).get("processors", [post]):
        if p and p["type"] == "TemplateProcessing":
            names = [i["SpecialToken"]["id"] for i in p["single"] if "SpecialToken" in i]
            p["special_tokens"] = {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in names}
    doc = {"version": "1.0", "truncation": None, "padding": None,
           "added_tokens": [{"id": ids[a["content"]], **a} for a in list(added) + list(last)],
           "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": decoder,
           "model": model}
    write(name, doc)


def write(name, doc):
    text = json.dumps(doc, ensure_ascii=False, separators=(",", ":")) + "\n"
    (HERE / f"{name}.tokenizer.json").write_text(text, encoding="utf-8")
    t = Tokenizer.from_str(text)
    rows = []
    for x in TEXTS:
        ids = t.encode(x.replace(NUL, "\0")).ids
        row = [ids]
        for skip in (False, True):
            s = t.decode(ids, skip_special_tokens=skip).replace("\0", NUL)
            row.append(None if s == x else s)
        rows.append(row)
    golden = {"tokenizers": __import__("tokenizers").__version__, "sha256": hashlib.sha256(text.encode()).hexdigest(),
              "rows": rows}
    out = json.dumps(golden, ensure_ascii=False, separators=(",", ":")).replace("],[[", "],\n[[") + "\n"
    (HERE / f"{name}.golden.json").write_text(out, encoding="utf-8")
    print(f"{name}: {len(doc['model']['vocab'])} entries, {len(text)} bytes, {sum(len(r[0]) for r in rows)} ids")


def families():
    chat = [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")]
    build("qwen3", normalizer={"type": "NFC"}, pre_tokenizer=pre(split(QWEN), byte_level(regex=False)),
          post=byte_level(regex=False), decoder=byte_level(regex=False),
          last=chat + [special("<think>", special=False), special("</think>", special=False)],
          continuing_subword_prefix="", end_of_word_suffix="")
    build("llama3", pre_tokenizer=pre(split(LLAMA3), byte_level(regex=False)),
          post=sequence("processors", byte_level(True), template(["<|begin_of_text|>"])), decoder=byte_level(True),
          last=[special("<|begin_of_text|>"), special("<|eot_id|>")], ignore_merges=True, size=900, tuples=False)
    build("gpt2", pre_tokenizer=byte_level(), post=byte_level(True), decoder=byte_level(True), tuples=False,
          last=[special("<|endoftext|>")], continuing_subword_prefix="", end_of_word_suffix="")
    build("smollm2", pre_tokenizer=pre({"type": "Digits", "individual_digits": True}, byte_level()),
          decoder=byte_level(True), first=[a["content"] for a in chat], added=chat, tuples=False)
    llama = [special("<unk>"), special("<s>"), special("</s>")]
    names = [a["content"] for a in llama]
    build("llama2", normalizer=METASPACE_OLD, post=template(["<s>"]), decoder=LLAMA2_DECODER, first=names, bytes_=True,
          added=llama, unk_token="<unk>", fuse_unk=True, tuples=False)
    build("llama2_metaspace", pre_tokenizer=metaspace("first", False), post=template(["<s>"]), decoder=LLAMA2_DECODER,
          first=names, bytes_=True, added=llama, unk_token="<unk>", fuse_unk=True)
    build("mistral", pre_tokenizer=metaspace("first", False), post=template(["<s>"]), decoder=LLAMA2_DECODER,
          first=names + ["[INST]", "[/INST]"], bytes_=True, unk_token="<unk>", fuse_unk=True,
          added=llama + [special("[INST]"), special("[/INST]")])
    build("mistral_tekken", pre_tokenizer=pre(split(TEKKEN), byte_level(regex=False)), post=template(["<s>"]),
          decoder=byte_level(True), first=names, added=llama, ignore_merges=True)
    build("deepseek", normalizer=sequence("normalizers"), post=byte_level(True), decoder=byte_level(True),
          pre_tokenizer=pre(*[split(p) for p in DEEPSEEK], byte_level(regex=False)), last=[special("<|endoftext|>")])
    build("gemma", normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
          pre_tokenizer=split(" ", "MergedWithPrevious", kind="String"), post=template(["<s>"], ["</s>"]), first=names,
          decoder=sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                           {"type": "ByteFallback"}, {"type": "Fuse"}), bytes_=True, added=llama, unk_token="<unk>",
          fuse_unk=True)


def oddities():
    """Options that no family uses in this combination, each at least once."""
    odd = [special("tok", single_word=True, special=False), special("<strip>", lstrip=True, rstrip=True),
           special("<left>", lstrip=True), special("<right>", rstrip=True), special("<|im"), special("<|im_start|>"),
           special("garden", normalized=True, special=False), special("Café", normalized=True, special=False),
           special("</s>", normalized=True)]
    build("odd_added", normalizer=sequence("normalizers", {"type": "NFC"}, {"type": "Lowercase"}),
          pre_tokenizer=byte_level(True), decoder=byte_level(), last=odd)
    build("odd_added_metaspace", normalizer=METASPACE_OLD, decoder=LLAMA2_DECODER, last=odd, bytes_=True,
          pre_tokenizer=metaspace("always"), first=["<unk>"], unk_token="<unk>")
    build("odd_unk", normalizer={"type": "NFKC"}, pre_tokenizer=pre({"type": "Whitespace"}, {"type": "Punctuation"}),
          first=["<unk>"], added=[special("<unk>")], unk_token="<unk>", size=400)
    build("odd_fuse", normalizer={"type": "NFD"}, pre_tokenizer=pre({"type": "WhitespaceSplit"},
                                                                    {"type": "Digits", "individual_digits": False}),
          first=["<unk>"], unk_token="<unk>", fuse_unk=True, size=300, decoder={"type": "Fuse"})
    build("odd_drop", normalizer={"type": "NFKD"}, size=200,
          pre_tokenizer=pre(metaspace("first"), {"type": "Punctuation", "behavior": "Contiguous"}),
          decoder=metaspace("always"))
    build("odd_never", pre_tokenizer=metaspace("never"), decoder=metaspace("never"), size=500)
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in (False, True):
            name = "split_" + behavior.lower() + "_invert" * invert
            build(name, pre_tokenizer=pre(split("-|o", behavior, invert), byte_level(True, False)), size=300,
                  decoder=byte_level())
    build("odd_regex", size=300, decoder=sequence("decoders", byte_level(), {"type": "Replace", "pattern":
          {"Regex": "[aeiou]+"}, "content": "*"}, {"type": "Strip", "content": "*", "start": 2, "stop": 0}),
          normalizer=sequence("normalizers", {"type": "Replace", "pattern": {"Regex": r"\s{2,}$|^-"}, "content": "\u00b6"},
                              {"type": "Replace", "pattern": {"Regex": "(?=z)"}, "content": "[]"},
                              {"type": "Replace", "pattern": {"Regex": r"\d{1,2}+"}, "content": "#"}),
          pre_tokenizer=pre(byte_level(True, False), split(r"\w+|\W", "Isolated"), split("Ġ", "MergedWithNext", kind="String")))


def main():
    shown = json.dumps(TEXTS, ensure_ascii=True).replace('", "', '",\n"') + "\n"
    (HERE / "texts.json").write_text(shown, encoding="utf-8")
    families()
    oddities()


main()
