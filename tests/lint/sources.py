# SPDX-License-Identifier: Apache-2.0
"""What lint.py and figures.py know about the repository: its files, its rooms, C text without comments."""
import os
import re
import subprocess

C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def repository_files(root):
    """Tracked and new files, relative to root; without git, everything outside build and hidden folders."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], check=True,
                             capture_output=True).stdout
        names = [n for n in out.decode().split("\0") if n]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, dirs, files in os.walk(root):
            dirs[:] = [d for d in dirs if d != "build" and not d.startswith(".")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(root, n)))


def read_text(root, name):
    """None for binary files."""
    with open(os.path.join(root, name), "rb") as f:
        data = f.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "replace")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def without_noise(text):
    """Comments and literals blanked out, line breaks kept."""
    return C_NOISE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def room_of(name):
    """The room of src/ROOM/**.[ch], include/espalier/ROOM.h or include/espalier/ROOM/SUBJECT.h; None for other files."""
    match = re.match(r"(?:src/(\w+)/.+|include/espalier/(\w+)(?:/\w+)?)\.[ch]$", name)
    return (match.group(1) or match.group(2)) if match else None


class Room:
    def __init__(self, rooms, libs, line):
        self.rooms, self.libs, self.line = set(rooms), set(libs), line


def rooms_of(root):
    """{name: Room} from the espl_room() calls of src/CMakeLists.txt, the one table of who may include whom.

    cli is a program and no espl_room(): it may include every room.
    """
    path = os.path.join(root, "src/CMakeLists.txt")
    if not os.path.exists(path):
        return {}
    text = re.sub(r"#[^\n]*", lambda m: " " * len(m.group()), read_text(root, "src/CMakeLists.txt"))
    rooms = {}
    for match in re.finditer(r"\bespl_room\(\s*(\w+)([^)]*)\)", text):
        lists, current = {"ROOMS": [], "LIBS": []}, None
        for word in match.group(2).split():
            current = word if word in lists else current
            if current and word != current:
                lists[current].append(word)
        rooms[match.group(1)] = Room(lists["ROOMS"], lists["LIBS"], line_of(text, match.start()))
    if rooms:
        rooms["cli"] = Room(rooms, [], 1)
    return rooms


class Tag:
    """A definition: a function, a variable, a struct, enum or union tag, or a typedef."""

    def __init__(self, name, file, kind, line, end, static, inside, typeref):
        self.name, self.file, self.kind, self.line, self.end = name, file, kind, line, end
        self.static, self.inside, self.typeref = static, inside, typeref
        self.length = end - line + 1


def definitions(root, names):
    """Tags of all C files in src/ and include/, or None without universal-ctags."""
    sources = [n for n in names if re.match(r"(src|include)/.*\.[ch]$", n)]
    if not sources:
        return []
    try:
        run = subprocess.run(["ctags", "-f", "-", "--fields=+nestK", "--kinds-C=fvsugt", "--languages=C",
                              "--langmap=C:+.h", *sources], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    rows = [re.match(r'([^\t!]+)\t([^\t]+)\t/\^(.*)/;"\t(\w+)(\t.*)$', row) for row in run.stdout.splitlines()]
    rows = [row.groups() for row in rows if row]
    heads = {(file, name): pattern for name, file, pattern, kind, _ in rows if kind in ("struct", "union", "enum")}
    tags = []
    for name, file, pattern, kind, rest in rows:
        if name.startswith("__anon"):
            continue
        fields = dict(field.partition(":")[::2] for field in rest.strip("\t").split("\t"))
        line, typeref = int(fields["line"]), fields.get("typeref", "")
        if pattern.startswith("}"):  # "} name[] = {": the line that may say static is the struct's
            pattern = heads.get((file, (re.findall(r"\w+", typeref) or [""])[-1]), pattern)
        static = "file" in fields or pattern.startswith("static")
        inside = fields.get("function") or fields.get("struct") or fields.get("union")
        tags.append(Tag(name, file, kind, line, int(fields.get("end", line)), static, inside, typeref))
    return tags
