# SPDX-License-Identifier: Apache-2.0
# Target docs (not part of ALL, only where Doxygen is installed): the API reference from include/espalier, in docs/html of
# the build directory. It prints how many public functions have no comment; warnings.txt names them.
find_package(Doxygen QUIET)
find_package(Python3 QUIET COMPONENTS Interpreter)
if(DOXYGEN_FOUND AND Python3_FOUND)
  set(ESPL_DOCS ${CMAKE_BINARY_DIR}/docs)
  configure_file(${CMAKE_SOURCE_DIR}/docs/Doxyfile.in ${ESPL_DOCS}/Doxyfile @ONLY)
  add_custom_target(docs
    COMMAND Doxygen::doxygen ${ESPL_DOCS}/Doxyfile
    COMMAND ${CMAKE_COMMAND} -DWARNINGS=${ESPL_DOCS}/warnings.txt -P ${CMAKE_SOURCE_DIR}/src/cmake/count_undocumented.cmake
    COMMENT "API reference: ${ESPL_DOCS}/html/index.html" VERBATIM)
endif()
