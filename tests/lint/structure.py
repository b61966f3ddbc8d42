# SPDX-License-Identifier: Apache-2.0
"""Circles between files of a room, and names that two things share. Used by lint.py; needs the tags of universal-ctags.

A file uses another when an identifier in its text is a function or variable with external linkage that the other defines,
directly or through a macro. Comments, strings, members (a.b, a->b, .b = ...) and names that the file itself defines do not
count. This reads tokens, not scopes: a local variable with the name of an external function counts as a use.
"""
import itertools
import os
import re

from sources import read_text, room_of, without_comments, without_noise

IDENTIFIER = re.compile(r"(?<![\w.])(?<!->)[A-Za-z_]\w*")
DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)((?:[^\n]*\\\n)*[^\n]*)", re.M)
BRUTE_FORCE = 7  # files of a circle up to which the best layering is found by trying all


def strongly_connected(edges):
    """Tarjan, without recursion: the components of more than one node, each sorted."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for start in sorted(edges):
        if start in index:
            continue
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        work = [(start, iter(sorted(edges[start])))]
        while work:
            node, successors = work[-1]
            for other in successors:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(sorted(edges.get(other, ())))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = stack[stack.index(node):]
                    del stack[len(stack) - len(component):]
                    on_stack.difference_update(component)
                    if len(component) > 1:
                        found.append(sorted(component))
    return found


def upward(component, uses):
    """The edges against the best order of layers: removing them breaks the circle. uses[a][b] is a set of names."""
    def against(order):
        place = {name: i for i, name in enumerate(order)}
        return [(a, b) for a in order for b in uses[a] if b in place and place[b] < place[a]]

    def weight(order):
        return sum(len(uses[a][b]) for a, b in against(order))

    if len(component) <= BRUTE_FORCE:
        return against(min(itertools.permutations(component), key=weight))
    # Eades, Lin and Smyth: next comes the file that uses most and is used least among those left.
    left, order = set(component), []
    while left:
        def balance(name):
            out = sum(len(uses[name][b]) for b in uses[name] if b in left)
            return out - sum(len(uses[a][name]) for a in left if name in uses[a])
        best = max(sorted(left), key=balance)
        order.append(best)
        left.remove(best)
    return against(order)


def defined_macros(text):
    """{macro: identifiers of its body} of one file, without those that it undefines again."""
    macros = {}
    for match in DEFINE.finditer(text):
        macros.setdefault(match.group(1), set()).update(IDENTIFIER.findall(match.group(2)))
    for name in re.findall(r"^[ \t]*#[ \t]*undef[ \t]+(\w+)", text, re.M):
        macros.pop(name, None)
    return macros


def expanded(names, macros):
    """names, and what the macros among them stand for."""
    names, left = set(names), set(names)
    while left:
        left = set().union(*(macros[name] for name in left & macros.keys())) - names
        names |= left
    return names


class Structure:
    def __init__(self, root, names, tags):
        self.tags = tags
        self.files = [n for n in names if room_of(n) and re.match(r"(src|include)/", n)]
        self.raw = {n: without_comments(read_text(root, n) or "") for n in self.files}
        texts = {n: without_noise(text) for n, text in self.raw.items()}
        macros = {}  # of headers: those of a .c file are part of its text
        for name in (n for n in self.files if n.endswith(".h")):
            macros.update(defined_macros(texts[name]))
        self.external = {}  # (room, name) -> file
        own = {n: set() for n in self.files}
        for tag in tags:
            if tag.kind in ("function", "variable") and not tag.inside:
                own.setdefault(tag.file, set()).add(tag.name)
                if not tag.static and tag.file.endswith(".c"):
                    self.external.setdefault((room_of(tag.file), tag.name), tag.file)
        self.uses = {}  # file -> {file of the same room: names}
        for name in self.files:
            room, text = room_of(name), self.used_text(name, texts[name])
            seen = expanded(IDENTIFIER.findall(text), {**macros, **defined_macros(text)})
            self.uses[name] = {}
            for identifier in seen - own[name]:
                other = self.external.get((room, identifier))
                if other:
                    self.uses[name].setdefault(other, set()).add(identifier)

    def used_text(self, name, text):
        """A header's prototypes are no uses: of a header only the inline functions count."""
        if name.endswith(".c"):
            return re.sub(r"^[ \t]*#[ \t]*(include|undef|pragma)[^\n]*", "", text, flags=re.M)
        lines = text.split("\n")
        return "\n".join(line for tag in self.tags if tag.file == name and tag.kind == "function"
                         for line in lines[tag.line - 1:tag.end])

    def circles(self):
        """(file, text) for every circle of uses and every circle of includes within a room."""
        found = []
        for component in strongly_connected(self.uses):
            room = room_of(component[0])
            closing = [f"{short(a, room)} -> {short(b, room)} ({some(self.uses[a][b])})"
                       for a, b in upward(component, self.uses)]
            found.append((component[0], f"circle of {', '.join(short(n, room) for n in component)};"
                          f" closed by {'; '.join(closing)}"))
        includes = {n: self.included(n) for n in self.files if n.endswith(".h")}
        for component in strongly_connected(includes):
            found.append((component[0], f"headers include each other: {', '.join(component)}"))
        return found

    def included(self, name):
        room, found = room_of(name), set()
        for header in re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', self.raw[name], re.M):
            for base in (os.path.dirname(name), f"src/{room}", "include"):
                path = os.path.normpath(os.path.join(base, header))
                if path in self.raw and room_of(path) == room:
                    found.add(path)
                    break
        return found

    def shared_types(self):
        """(file, text) for every name of two types. A typedef may have the name of the struct it names."""
        places = {}
        for tag in self.tags:
            own = tag.kind == "typedef" and re.fullmatch(r"(struct|union|enum):" + re.escape(tag.name), tag.typeref)
            if tag.kind in ("struct", "union", "enum", "typedef") and not own:
                places.setdefault(tag.name, []).append(f"{tag.file}:{tag.line}")
        for tag in self.tags:  # typedef struct x x of a struct that another file defines
            if tag.kind == "typedef" and tag.name not in places:
                places[tag.name] = [f"{tag.file}:{tag.line}"]
        return [(at[0].split(":")[0], f"type {name} is defined {len(at)} times: {', '.join(at)}")
                for name, at in sorted(places.items()) if len(at) > 1]

    def shared_functions(self):
        """(file, text) for every function with external linkage that two rooms define."""
        places = {}
        for tag in self.tags:
            if tag.kind == "function" and not tag.static and tag.file.endswith(".c"):
                places.setdefault(tag.name, []).append(tag.file)
        return [(at[0], f"function {name} is defined in {', '.join(at)}")
                for name, at in sorted(places.items()) if len(at) > 1 and name != "main"]  # cli has two programs

    def unprefixed(self):
        """(file, text) for functions and variables with external linkage that do not start with espl_."""
        return [(file, f"{name} has external linkage and no prefix espl_") for (room, name), file
                in sorted(self.external.items()) if not re.match(r"espl_|cli_|main$" if room == "cli" else r"espl_", name)]


def short(name, room):
    return name.removeprefix(f"src/{room}/")


def some(names, most=4):
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
