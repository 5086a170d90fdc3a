# Rules that no compiler checks: public headers (those without a line "// Internal: why") include no kernel or vendor
# header; nothing on a floor includes from a floor above; every header has #pragma once; examples stay short.
set -uo pipefail
shopt -s lastpipe  # rule sets a variable at the end of a pipe
cd "$EFIO_SOURCE_DIR"
bad=0
rule() {  # rule TEXT, with the offending lines on standard input
  local lines; lines=$(cat)
  [ -z "$lines" ] && return
  printf '%s:\n%s\n' "$1" "$lines"; bad=1
}
public_headers() { find efio efnet -name '*.h' -not -path 'efio/engines/*' -exec grep -LE '^// Internal:' {} +; }

public_headers | xargs -r grep -nHE \
  '#\s*include\s*<(linux/|net/|netinet/|netpacket/|netlink/|arpa/|sys/(ioctl|socket|mman|epoll|eventfd)|pcap|bpf/|xdp/|rte_|pfring)' |
  rule 'public headers include no kernel or vendor header (one that is not public has a line "// Internal: why")'
grep -rnE '#\s*include\s*"(efnet|tools)/' efio --include='*.h' --include='*.cpp' | rule "efio includes from a floor above"
grep -rnE '#\s*include\s*"tools/' efnet --include='*.h' --include='*.cpp' | rule "efnet includes from a floor above"
grep -rnE '#\s*include\s*"(efio/engines/|efio/(queue|port|poller)\.h)' efnet/tables --include='*.h' --include='*.cpp' 2>/dev/null |
  rule "tables include no queue"
find efio efnet tools tests -name '*.h' -exec grep -L '#pragma once' {} + | rule "header without #pragma once"
find examples -name '*.cpp' -exec awk 'END { if (NR > 80) print FILENAME ": " NR " lines" }' {} \; |
  rule "examples have at most 80 lines"
exit $bad
