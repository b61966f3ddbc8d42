# SPDX-License-Identifier: Apache-2.0
# cmake --install and cpack. Under PREFIX:
#   bin/espalier, bin/espalier-{report,tables,plots}
#   share/espalier/{jobs,configs,analysis,sapling}   batch scripts, configurations, page and tables, the demo's model
#   share/man/man1, share/bash-completion/completions, share/zsh/site-functions
#   share/modulefiles/espalier/VERSION               for `module load`
#   share/doc/espalier
# Nothing in it is written to later: a prefix may be read-only.
include(GNUInstallDirs)
set(ESPL_SHARE ${CMAKE_INSTALL_DATADIR}/espalier)

# Manual pages and completions, from the option tables.
set(espl_pages ${CMAKE_BINARY_DIR}/pages)
file(MAKE_DIRECTORY ${espl_pages})
set(espl_completions ${CMAKE_SOURCE_DIR}/src/cli)
add_custom_command(OUTPUT ${espl_pages}/espalier.1
  COMMAND espalier_pages ${espl_pages} ${espl_completions}
  DEPENDS espalier_pages ${espl_completions}/completion.bash ${espl_completions}/completion.zsh
  COMMENT "Manual pages and completions" VERBATIM)
add_custom_target(pages ALL DEPENDS ${espl_pages}/espalier.1)

install(TARGETS espalier RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${espl_pages}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
install(FILES ${espl_pages}/espalier.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME espalier)
install(FILES ${espl_pages}/_espalier DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
foreach(program IN ITEMS report tables plots)
  install(PROGRAMS analysis/launch.sh DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME espalier-${program})
endforeach()
install(DIRECTORY jobs analysis DESTINATION ${ESPL_SHARE} USE_SOURCE_PERMISSIONS
  PATTERN "__pycache__" EXCLUDE PATTERN "launch.sh" EXCLUDE PATTERN "packages" EXCLUDE)
install(DIRECTORY configs DESTINATION ${ESPL_SHARE})
install(DIRECTORY tests/sapling/model tests/sapling/data DESTINATION ${ESPL_SHARE}/sapling)
install(FILES tests/sapling/MODEL_CARD.md tests/sapling/facts.jsonl DESTINATION ${ESPL_SHARE}/sapling)
install(FILES README.md CHANGELOG.md CITATION.cff DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright) # the name that Debian asks for
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md" PATTERN "results" EXCLUDE)

# What holds the prefix is written at installation: `cmake --install --prefix` may choose another than CMake was told.
configure_file(${CMAKE_SOURCE_DIR}/src/cmake/install_prefix.cmake.in ${CMAKE_BINARY_DIR}/install_prefix.cmake @ONLY)
install(SCRIPT ${CMAKE_BINARY_DIR}/install_prefix.cmake)

# cpack: a .deb whose dependencies dpkg-shlibdeps finds. Build it with preset "package", whose code runs on other machines.
set(CPACK_PACKAGE_NAME espalier)
set(CPACK_PACKAGE_VENDOR "The espalier maintainers")
set(CPACK_PACKAGE_CONTACT "The espalier maintainers <maintainers@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_PACKAGE_DESCRIPTION "Prunes large language models (Qwen, Llama, SmolLM, Mistral) on CPU nodes: an agent decides where,
perplexity and questions judge every step. Batch scripts for Slurm, sweeps, tables and pictures.")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON) # the installed files name /usr, not the directory in which the package is put together
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "openmpi-bin")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS
  "libopenblas0-openmp, python3-h5py, python3-jinja2, python3-matplotlib, python3-pandas, python3-scipy, curl")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "slurm-client, bash-completion")
include(CPack)
