#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes chat.json: dialogues as transformers' apply_chat_template(..., add_generation_prompt=True) lays them out.

usage: make_chat.py [--check] [NAME=tokenizer_config.json ...]

The templates below are short forms of those that models carry: the published expressions for system, user and assistant
messages, without tools and images. NAME=FILE compares one with the template in FILE, on all dialogues. --check compares the
output with the committed file instead of writing it. Packages: ../requirements.txt and jinja2.
"""
import json
import os
import sys

from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
OUTPUT = os.path.join(HERE, "chat.json")

ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}")


def chatml(default=None):
    first = ("{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + default +
             "<|im_end|>\n' }}{% endif %}") if default else ""
    return ("{% for message in messages %}" + first +
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\n') if '</think>' in message.content else message.content %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""

LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
          "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
          "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")

LLAMA31 = r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
          "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
          "{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}"
          "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
          "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + "
          "content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + "
          "eos_token }}{% endif %}{% endfor %}")

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {{- message['content'] | trim }}
    {{- '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""

MISTRAL = ("{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + "
           "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
           "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")


def mistral_later(space, answer):
    return ("""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]SPACE" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]SPACE" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- ANSWER }}
    {%- endif %}
{%- endfor %}
""").replace("SPACE", space).replace("ANSWER", answer)


ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
          "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")

PHI3 = ("{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + "
        "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + "
        "'<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")

PHI4 = ("{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
        "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + "
        "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + "
        "message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}")

PHI4_MINI = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}")

# name: (template, BOS, EOS, fixture of ../tokenizer whose ids are compared)
TEMPLATES = {
    "chatml": (chatml(), "", "<|im_end|>", None),
    "smollm2": (chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"), "<|im_start|>", "<|im_end|>",
                "smollm2"),
    "qwen2": (chatml("You are a helpful assistant."), "", "<|im_end|>", None),
    "qwen2.5": (chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), "", "<|im_end|>", None),
    "qwen3": (QWEN3, "", "<|im_end|>", "qwen3"),
    "llama2": (LLAMA2, "<s>", "</s>", "llama2"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", "llama3"),
    "llama3.1": (LLAMA31, "<|begin_of_text|>", "<|eot_id|>", "llama3"),
    "gemma": (GEMMA, "<bos>", "<eos>", None),
    "mistral": (MISTRAL, "<s>", "</s>", "mistral"),
    "mistral-v3": (mistral_later(" ", '" " + message["content"]|trim + eos_token'), "<s>", "</s>", "mistral"),
    "mistral-nemo": (mistral_later("", 'message["content"] + eos_token'), "<s>", "</s>", "mistral_tekken"),
    "zephyr": (ZEPHYR, "<s>", "</s>", "llama2"),
    "phi3": (PHI3, "<s>", "<|end|>", None),
    "phi4": (PHI4, "", "<|im_end|>", None),
    "phi4-mini": (PHI4_MINI, "", "<|end|>", None),
}
NO_SYSTEM = {"mistral"}  # templates that refuse a system message

SYSTEM = {"role": "system", "content": "You prune models. Answer in JSON. "}
QUESTION = {"role": "user", "content": "Which layers?"}
DIALOGUES = [
    [QUESTION],
    [SYSTEM, QUESTION],
    [SYSTEM, QUESTION, {"role": "assistant", "content": " {\"layers.0\": 0.1}\n"},
     {"role": "user", "content": "\n Na\u00efve? \u6570\u5b57 1234, two  spaces.\n\n"}],
    [QUESTION, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nNone."}, {"role": "user", "content": "Why <none>?"},
     {"role": "assistant", "content": "It's \"{{ x }}\"."}, {"role": "user", "content": "Go\u00a0on"}],
]

# Variants that lay out messages in another way, and other templates: each must be refused.
UNKNOWN = [
    "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    chatml("You are a pirate."),
    MISTRAL.replace("message['content'] + eos_token", "' ' + message['content'] + eos_token"),
    QWEN3.replace("{%- if enable_thinking is defined and enable_thinking is false %}", "{%- if true %}"),
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n' + "
    "message['content'] + '<|eot_id|>' }}{% endfor %}",
    "",
]


def tokenizer_of(fixture, template, bos, eos):
    path = os.path.join(HERE, "..", "tokenizer", f"{fixture or 'smollm2'}.tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, bos_token=bos or None, eos_token=eos)
    tokenizer.chat_template = template
    return tokenizer


def render(tokenizer, messages, tokenize):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=tokenize, return_dict=False,
                                         enable_thinking=False, date_string="26 Jul 2024")


def cases():
    for name, (template, bos, eos, fixture) in TEMPLATES.items():
        tokenizer = tokenizer_of(fixture, template, bos, eos)
        for messages in DIALOGUES:
            if name in NO_SYSTEM and messages[0]["role"] == "system":
                continue
            case = {"template": name, "messages": messages, "text": render(tokenizer, messages, False)}
            if fixture:
                case |= {"tokenizer": fixture, "ids": list(render(tokenizer, messages, True))}
            yield case


def compare(name, path):
    template, bos, eos, fixture = TEMPLATES[name]
    with open(path, encoding="utf-8") as f:
        real = json.load(f)["chat_template"] if path.endswith(".json") else f.read()
    for messages in DIALOGUES:
        texts = [render(tokenizer_of(fixture, t, bos, eos), messages, False) for t in (template, real)]
        if texts[0] != texts[1]:
            sys.exit(f"{name}: {path} differs:\n{texts[0]!r}\n{texts[1]!r}")
    print(f"{name}: {path} gives the same texts")


def main():
    arguments = sys.argv[1:]
    for pair in (a for a in arguments if "=" in a):
        compare(*pair.split("=", 1))
    document = {"templates": {name: t[0] for name, t in TEMPLATES.items()}, "unknown": UNKNOWN, "cases": list(cases())}
    text = json.dumps(document, indent=1, ensure_ascii=True) + "\n"
    if "--check" in arguments:
        with open(OUTPUT, encoding="utf-8") as f:
            sys.exit(0 if f.read() == text else "chat.json differs")
    with open(OUTPUT, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
