# SPDX-License-Identifier: Apache-2.0
# Writes OUT with the version and git revision of SOURCE; leaves it alone when nothing changed.
cmake_minimum_required(VERSION 3.22)
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12
  OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT revision)
  set(revision "unknown")
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT
"#define ESPL_VERSION \"@VERSION@\"
#define ESPL_REVISION \"@revision@\"
" @ONLY)
