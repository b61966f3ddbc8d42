# SPDX-License-Identifier: Apache-2.0
# Third-party libraries, each as one imported target that only the rooms of the design's table link.
find_package(PkgConfig REQUIRED)
if(NOT ESPL_FUZZ) # fuzz targets run single-threaded: clang needs no OpenMP runtime then
  find_package(OpenMP REQUIRED COMPONENTS C)
endif()
find_package(Threads REQUIRED) # the heartbeat of a run's lock
find_package(MPI REQUIRED COMPONENTS C)
set(HDF5_PREFER_PARALLEL TRUE)
find_package(HDF5 REQUIRED COMPONENTS C)
if(NOT HDF5_IS_PARALLEL)
  message(FATAL_ERROR "espalier needs parallel HDF5 (Debian: libhdf5-openmpi-dev)")
endif()
pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_package(ZLIB REQUIRED)
find_package(CURL 7.66 REQUIRED) # CURLINFO_RETRY_AFTER

# OpenBLAS, its OpenMP flavour first: it shares one thread pool with our own OpenMP loops, and it does not clamp its
# thread count to the affinity mask (docs/architecture.md, "Threads"). Any other flavour works, with one BLAS thread.
find_path(ESPL_OPENBLAS_INCLUDE cblas.h
  PATH_SUFFIXES openblas-openmp ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp openblas openblas-pthread
                ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-pthread
  REQUIRED)
find_library(ESPL_OPENBLAS_LIBRARY NAMES openblas openblas_omp
  PATH_SUFFIXES openblas-openmp ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp openblas-pthread
                ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-pthread
  REQUIRED)
add_library(espl_openblas INTERFACE)
target_include_directories(espl_openblas SYSTEM INTERFACE ${ESPL_OPENBLAS_INCLUDE})
target_link_libraries(espl_openblas INTERFACE ${ESPL_OPENBLAS_LIBRARY})
message(STATUS "OpenBLAS: ${ESPL_OPENBLAS_LIBRARY}")

# LAPACKE, the C interface of LAPACK. OpenBLAS has its own unless it was built without, as Debian's is; then the
# interface comes from liblapacke, the static library first: it resolves to OpenBLAS's LAPACK at link time and adds no
# shared library to a run (Debian's liblapacke.so loads three more).
include(CheckLibraryExists)
find_path(ESPL_LAPACKE_INCLUDE lapacke.h HINTS ${ESPL_OPENBLAS_INCLUDE} REQUIRED)
check_library_exists(${ESPL_OPENBLAS_LIBRARY} LAPACKE_dpotrf_work "" ESPL_OPENBLAS_HAS_LAPACKE)
add_library(espl_lapacke INTERFACE)
target_include_directories(espl_lapacke SYSTEM INTERFACE ${ESPL_LAPACKE_INCLUDE})
if(NOT ESPL_OPENBLAS_HAS_LAPACKE)
  find_library(ESPL_LAPACKE_LIBRARY NAMES liblapacke.a lapacke REQUIRED) # Debian: liblapacke-dev
  target_link_libraries(espl_lapacke INTERFACE ${ESPL_LAPACKE_LIBRARY})
endif()
target_link_libraries(espl_lapacke INTERFACE espl_openblas)

# oneDNN, optional: products in bf16. Found by its header and library, whatever its version's CMake files are called.
option(ESPL_ONEDNN "Use oneDNN, if found, for bf16 arithmetic" ON)
add_library(espl_onednn INTERFACE)
if(ESPL_ONEDNN)
  find_path(ESPL_ONEDNN_INCLUDE dnnl.h)
  find_library(ESPL_ONEDNN_LIBRARY dnnl)
endif()
if(ESPL_ONEDNN AND ESPL_ONEDNN_INCLUDE AND ESPL_ONEDNN_LIBRARY)
  target_include_directories(espl_onednn SYSTEM INTERFACE ${ESPL_ONEDNN_INCLUDE})
  target_link_libraries(espl_onednn INTERFACE ${ESPL_ONEDNN_LIBRARY})
  target_compile_definitions(espl_onednn INTERFACE ESPL_ONEDNN)
  message(STATUS "oneDNN: ${ESPL_ONEDNN_LIBRARY}")
else()
  message(STATUS "oneDNN: none, so no bf16 arithmetic (Debian: libdnnl-dev)")
endif()

# hwloc, optional: the NUMA domains of a node. Open MPI is built on it.
option(ESPL_HWLOC "Use hwloc, if found, to recommend ranks and threads by the topology of the node" ON)
add_library(espl_hwloc INTERFACE)
if(ESPL_HWLOC)
  pkg_check_modules(HWLOC IMPORTED_TARGET hwloc>=2)
endif()
if(ESPL_HWLOC AND HWLOC_FOUND)
  target_link_libraries(espl_hwloc INTERFACE PkgConfig::HWLOC)
  target_compile_definitions(espl_hwloc INTERFACE ESPL_HWLOC)
  message(STATUS "hwloc: ${HWLOC_VERSION}")
else()
  message(STATUS "hwloc: none, so a node counts as one NUMA domain (Debian: libhwloc-dev)")
endif()

add_library(espl_openmp INTERFACE)
if(ESPL_FUZZ)
  target_compile_options(espl_openmp INTERFACE -Wno-unknown-pragmas)
else()
  target_link_libraries(espl_openmp INTERFACE OpenMP::OpenMP_C)
endif()
