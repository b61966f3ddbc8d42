# SPDX-License-Identifier: Apache-2.0
# Completion for zsh: commands, options, files, and SECTION.KEY=VALUE of --set. The words come from functions that
# espalier_pages writes above this text.
_espalier() {
  local word command='' previous=${words[CURRENT-1]}
  local -a candidates
  for word in ${words[2,CURRENT-1]}; do
    [[ $word == -* ]] || { command=$word; break }
  done
  if [[ $previous == --set ]] && compset -P '*='; then
    candidates=(${(f)"$(_espalier_values ${IPREFIX%=})"})
    if (( $#candidates )); then compadd -a candidates; else _files; fi
  elif [[ $previous == --set ]]; then
    candidates=(${(f)"$(_espalier_keys)"})
    compadd -S = -a candidates
  elif [[ $PREFIX == --*=* ]]; then
    compset -P '*='
    _files
  elif [[ $(_espalier_argument "$command" "$previous") == value ]]; then
    _message "value of $previous"
  elif [[ $PREFIX == -* || -z $command ]]; then
    candidates=(${(f)"$(_espalier_options $command)"})
    _describe -o espalier candidates
  else
    _files
  fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _espalier "$@"; else compdef _espalier espalier; fi
