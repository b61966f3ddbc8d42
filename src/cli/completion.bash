# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Completion for bash: commands, options, files, and SECTION.KEY=VALUE of --set. The words come from functions that
# espalier_pages writes above this text.
_espalier() {
  local words=() word last='' command='' current previous value candidates
  # bash splits words at "="; we want --set prune.score=wanda as two words
  for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
    if [[ ($word == = || $last == =) && ${#words[@]} -gt 1 ]]; then words[-1]+=$word; else words+=("$word"); fi
    last=$word
  done
  current=${words[-1]} previous=${words[-2]} value=${current#*=}
  for word in "${words[@]:1:${#words[@]}-2}"; do
    [[ $word == -* ]] || { command=$word && break; }
  done
  if [[ $previous == --set && $current != *=* ]]; then
    mapfile -t COMPREPLY < <(compgen -S = -W "$(_espalier_keys)" -- "$current")
    compopt -o nospace
    return
  fi
  if [[ $previous == --set ]]; then
    candidates=$(_espalier_values "${current%%=*}")
  elif [[ $current == --*=* ]]; then
    candidates=''
  elif [[ $(_espalier_argument "$command" "$previous") == value ]]; then
    return # a number or a name: nothing to offer
  elif [[ $current == -* || -z $command ]]; then
    candidates=$(_espalier_options "$command" | cut -d: -f1)
  fi
  # what is replaced is the part behind "="
  if [[ -n $candidates ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$value")
  else
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$value")
  fi
}
complete -F _espalier espalier
