#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/run.sh and jobs/demo.sh: installs missing packages on Debian, builds, sets the environment.
#   espl_install PACKAGE...   installs the Debian packages that are missing (needs root or sudo)
#   espl_build PRESET         configures and builds build/PRESET
#   espl_mpi_environment      sets what mpirun needs on a workstation or in a container

ESPL_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# shellcheck disable=SC2034 # used by the scripts that source this file
ESPL_BUILD_PACKAGES=(build-essential cmake ninja-build git pkg-config openmpi-bin libopenmpi-dev libopenblas-openmp-dev
  liblapacke-dev libhdf5-openmpi-dev libcjson-dev libpcre2-dev libutf8proc-dev libxxhash-dev libcurl4-openssl-dev
  zlib1g-dev libdnnl-dev libhwloc-dev libcmocka-dev dpkg-dev file) # libdnnl-dev: bf16, 7 MB; the last two: for cpack
# shellcheck disable=SC2034
ESPL_PAGE_PACKAGES=(python3-h5py python3-jinja2 python3-matplotlib python3-pandas python3-scipy)

espl_say() { printf '\n== %s\n' "$*" >&2; }

espl_missing() {
  local p
  for p in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s\n' "$p"
  done
}

# Does nothing without dpkg: on other systems, modules or packages must provide the libraries, and CMake names the
# missing ones.
espl_install() {
  command -v dpkg-query >/dev/null || return 0
  local missing sudo=()
  mapfile -t missing < <(espl_missing "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "these Debian packages are missing and installing them needs root: ${missing[*]}" >&2
      return 1
    }
    sudo=(sudo)
  fi
  espl_say "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

espl_build() {
  espl_say "building ($1)"
  (cd "$ESPL_ROOT" && cmake --preset "$1" >/dev/null && cmake --build --preset "$1" -- --quiet)
}

espl_mpi_environment() {
  export OMPI_MCA_rmaps_base_oversubscribe=1     # allow more ranks than cores
  export OMPI_MCA_hwloc_base_binding_policy=none # do not bind a rank to one core: its threads need several
  if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
}
