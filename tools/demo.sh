#!/bin/bash
# tools/demo.sh BIN: shows what the programs in BIN do. First in memory, which needs nothing; then, where root allows,
# through the kernel between two network namespaces.
set -euo pipefail
here=$(dirname "$0")
bin=$1

if [ -x "$bin/io_gen" ]; then
  echo "== io_gen table: sending and receiving through memory"
  "$bin/io_gen" table
fi

veth=$here/io_gen/demo_veth.sh
[ -f "$veth" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "== the part between two network namespaces needs root: skipped"
elif ! unshare --net true 2>/dev/null; then
  echo "== the part between two network namespaces needs namespaces, which are not allowed here: skipped"
else
  echo "== io_gen through AF_PACKET and a veth pair, beside the kernel's own counters"
  bash "$veth" "$bin"
fi
