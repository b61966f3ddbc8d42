#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over the sources of a configured build: tests/lint/tidy.sh [BUILD_DIR] [REGEX]
# BUILD_DIR (build/release) is built: it holds compile_commands.json and generated headers. Only files whose path matches
# REGEX are looked at (all).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/release}
regex=${2:-.}
tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "tidy.sh: clang-tidy is not installed" >&2; exit 2; }
[ -f "$build/compile_commands.json" ] || { echo "tidy.sh: no compile_commands.json in $build" >&2; exit 2; }

mapfile -t files < <(python3 - "$build/compile_commands.json" "$root" "$regex" <<'PY'
import json, os, re, sys
database, root, regex = sys.argv[1:]
for name in sorted({os.path.normpath(os.path.join(e["directory"], e["file"])) for e in json.load(open(database))}):
    if name.startswith(root + os.sep) and os.path.exists(name) and re.search(regex, os.path.relpath(name, root)):
        print(name)
PY
)
[ "${#files[@]}" -gt 0 ] || { echo "tidy.sh: no file matches $regex" >&2; exit 2; }
# clang's own omp.h is a package of its own; gcc's declares the same functions, with an attribute that clang 14 rejects.
extra=$(mktemp -d)
trap 'rm -rf "$extra"' EXIT
omp=$(gcc -print-file-name=include/omp.h 2>/dev/null || true)
if [ -f "$omp" ]; then sed -E 's/__malloc__ *\([^)]*\)/__malloc__/g' "$omp" > "$extra/omp.h"; fi

status=0
printf '%s\0' "${files[@]}" | xargs -0 -P 2 -n 4 "$tidy" -p "$build" --quiet "--extra-arg=-idirafter$extra" 2> >(grep -v 'warnings generated' >&2) || status=1
echo "tidy: ${#files[@]} files, $([ $status = 0 ] && echo clean || echo "findings above")"
exit $status
