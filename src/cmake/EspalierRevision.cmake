# SPDX-License-Identifier: Apache-2.0
# espl_revision: a target that regenerates build/<preset>/generated/espl_revision.h when the git revision changes.
set(ESPL_GENERATED ${CMAKE_BINARY_DIR}/generated)
add_custom_target(espl_revision
  BYPRODUCTS ${ESPL_GENERATED}/espl_revision.h
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${ESPL_GENERATED}/espl_revision.h
          -DVERSION=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/src/cmake/write_revision.cmake
  VERBATIM)
