# The man pages and completions made of the programs' option tables are read by those who will read them.
set -uo pipefail
bad=0
checked=0
check() {  # check FILE COMMAND…
  local file=$1 said; shift
  [ -e "$file" ] || return
  said=$("$@" "$file" 2>&1) && [ -z "$said" ] || { echo "$* $file: $said"; bad=1; }
  checked=$((checked + 1))
}
for tool in "$EFIO_BUILD_DIR"/documents/man/*.1; do
  name=$(basename "$tool" .1)
  command -v groff >/dev/null && check "$tool" groff -man -ww -z -Tutf8
  check "$EFIO_BUILD_DIR/documents/bash/$name" bash -n
  command -v zsh >/dev/null && check "$EFIO_BUILD_DIR/documents/zsh/_$name" zsh -n
done
echo "checked $checked documents"
exit $bad
