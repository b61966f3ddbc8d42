# SPDX-License-Identifier: Apache-2.0
# espl_room(NAME ROOMS <rooms it may include> LIBS <third party>): src/<name>/**.c as a static library espl_<name>.
# Private headers are found by their path relative to src/<name> (-iquote: <string.h> stays the system's).
# A room sees the headers of its third-party libraries only, so a stray #include <mpi.h> does not compile.
add_library(espl_flags INTERFACE)
target_include_directories(espl_flags INTERFACE ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(espl_flags INTERFACE _GNU_SOURCE)
target_compile_options(espl_flags INTERFACE -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes
  -Wmissing-prototypes -Wvla -Wformat=2 $<$<CONFIG:Release>:-O3> -g -fno-math-errno -fno-trapping-math)
if(ESPL_WERROR)
  target_compile_options(espl_flags INTERFACE -Werror)
endif()
if(ESPL_MARCH)
  target_compile_options(espl_flags INTERFACE -march=${ESPL_MARCH})
endif()
if(ESPL_SANITIZE OR ESPL_FUZZ)
  set(espl_sanitizers address,undefined)
  if(ESPL_FUZZ)
    string(APPEND espl_sanitizers ,fuzzer-no-link)
  endif()
  target_compile_options(espl_flags INTERFACE -fsanitize=${espl_sanitizers} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -O1 # without optimisation the tests take four times as long
    $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation;-Wno-maybe-uninitialized>) # false alarms between the sanitizers' checks
  target_link_options(espl_flags INTERFACE -fsanitize=address,undefined)
endif()

function(espl_room name)
  cmake_parse_arguments(ROOM "" "" "ROOMS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.c)
  add_library(espl_${name} STATIC ${sources})
  target_compile_options(espl_${name} PRIVATE "SHELL:-iquote ${CMAKE_SOURCE_DIR}/src/${name}")
  target_link_libraries(espl_${name} PUBLIC espl_flags)
  foreach(room IN LISTS ROOM_ROOMS)
    target_link_libraries(espl_${name} PUBLIC espl_${room})
  endforeach()
  foreach(lib IN LISTS ROOM_LIBS)
    # $<COMPILE_ONLY>-like privacy: includes stay inside the room, the link requirement travels with the archive.
    target_link_libraries(espl_${name} PRIVATE ${lib})
  endforeach()
endfunction()
