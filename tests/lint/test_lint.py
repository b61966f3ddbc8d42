#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint.py finds what is planted in a small repository, and nothing in the same repository without it."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOMS = """# bottom to top
espl_room(low LIBS PkgConfig::XXHASH)
espl_room(high ROOMS low # a comment
               LIBS MPI::MPI_C)
"""
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n/* A file. */\n"
CLEAN = {
    ".clang-format": "DisableFormat: true\n",
    "src/CMakeLists.txt": "# SPDX-License-Identifier: Apache-2.0\n" + ROOMS,
    "include/espalier/low/list.h": SPDX + "#ifndef ESPALIER_LOW_LIST_H\n#define ESPALIER_LOW_LIST_H\n"
                                   "int espl_list_length(void);\n#endif\n",
    "src/low/list.c": SPDX + '#include "espalier/low/list.h"\n#include "deep/item.h"\n'
                      "int espl_list_length(void) { return espl_item_length(); }\n",
    "src/low/deep/item.h": SPDX + "#ifndef ESPL_LOW_DEEP_ITEM_H\n#define ESPL_LOW_DEEP_ITEM_H\nint espl_item_length(void);\n"
                           "typedef struct item {\n    int x;\n} item;\n#endif\n",
    "src/low/deep/item.c": SPDX + '#include "item.h"\n'
                           "/* espl_list_length in a comment, \"espl_list_length\" in a string are no uses. */\n"
                           'int espl_item_length(void) { return (int)sizeof "espl_list_length"; }\n',
    "src/high/high.c": SPDX + '#include "espalier/low/list.h"\n',
}


def lint(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), "w") as f:
                f.write(text)
        run = subprocess.run([sys.executable, os.path.join(HERE, "lint.py"), "-v", root], capture_output=True, text=True)
        return run.stdout


class Lint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clean = lint(CLEAN)

    def planted(self, name, text, expected):
        self.assertNotIn(expected, self.clean)
        self.assertIn(expected, lint({**CLEAN, name: text}))

    def test_clean_repository_has_no_finding(self):
        self.assertIn("0 findings", self.clean)
        self.assertNotIn(".c:", self.clean)
        self.assertNotIn(".h:", self.clean)

    def test_room_below_includes_no_room_above(self):
        self.planted("src/low/x.c", SPDX + '#include "espalier/high.h"\n', "src/low/x.c:3: room low may not include room high")

    def test_private_header_of_another_room(self):
        self.planted("src/high/x.c", SPDX + '#include "../low/deep/item.h"\n', "src/high/x.c:3: includes ../low/deep/item.h")

    def test_third_party_header_needs_its_library(self):
        self.planted("src/high/x.c", SPDX + "#include <xxhash.h>\n", "src/high/x.c:3: xxhash.h needs PkgConfig::XXHASH")

    def test_mpi_has_one_home(self):
        self.planted("src/high/x.c", SPDX + "#include <mpi.h>\n", "src/high/x.c:3: mpi.h belongs to room comm alone")

    def test_rooms_are_listed_bottom_to_top(self):
        self.planted("src/CMakeLists.txt", ROOMS.replace("low LIBS", "low ROOMS high LIBS"), "room low links high")

    def test_exit_outside_cli(self):
        self.planted("src/high/x.c", SPDX + "void espl_x(void) { exit(1); }\n", "src/high/x.c:3: exit() outside cli")

    def test_machine_path(self):
        self.planted("notes.sh", "cd /" + "home/me\n", "notes.sh:1: path of one machine")

    def test_dead_link(self):
        self.planted("notes.md", "[x](nowhere.md)\n", "notes.md:1: nowhere.md is linked and not there")

    def test_missing_licence_line(self):
        self.planted("src/high/x.c", "\n", "src/high/x.c:1: does not start with SPDX-License-Identifier")

    def test_include_guard(self):
        self.planted("src/high/x.h", SPDX + "#ifndef X_H\n#endif\n", "the include guard is not ESPL_HIGH_X_H")

    def test_circle_of_two_files(self):
        self.planted("src/low/deep/item.c", SPDX + "int espl_item_length(void) { return espl_list_length(); }\n",
                     "circle of deep/item.c, list.c; closed by")

    def test_circle_through_a_macro(self):
        self.planted("src/low/deep/item.c", SPDX + "#define LENGTH() espl_list_length()\n"
                     "int espl_item_length(void) { return LENGTH(); }\n", "circle of deep/item.c, list.c")

    def test_headers_that_include_each_other(self):
        files = {"src/low/a.h": SPDX + '#include "b.h"\n', "src/low/b.h": SPDX + '#include "a.h"\n'}
        self.assertIn("headers include each other: src/low/a.h, src/low/b.h", lint({**CLEAN, **files}))

    def test_two_types_of_one_name(self):
        self.planted("src/high/x.c", SPDX + "typedef struct item {\n    int y;\n} item;\n", "type item is defined 2 times")

    def test_two_functions_of_one_name(self):
        self.planted("src/high/x.c", SPDX + "int espl_item_length(void) { return 1; }\n",
                     "function espl_item_length is defined in src/high/x.c, src/low/deep/item.c")

    def test_external_name_without_prefix(self):
        self.planted("src/high/x.c", SPDX + "int length(void) { return 1; }\n", "length has external linkage and no prefix")

    def test_misspelled_word(self):
        if not shutil.which("codespell"):
            print("\nskipped: the check of spelling: codespell is not installed", file=sys.stderr)
            self.skipTest("needs codespell")
        self.planted("notes.md", "We rec" + "ieve it.\n", "notes.md:1: rec" + "ieve ==> receive")

    def test_long_function(self):
        body = "    x++;\n" * 90
        self.planted("src/high/x.c", SPDX + f"static void espl_x(int x) {{\n{body}}}\n", "espl_x has 92 lines")


if __name__ == "__main__":
    if not shutil.which("ctags"):
        print("skipped: ctags is not installed (Debian: universal-ctags)")
        sys.exit(77)
    unittest.main()
