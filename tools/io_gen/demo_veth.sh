#!/bin/bash
# demo_veth.sh BIN: one million frames through AF_PACKET from one network namespace to another and back, and the counts
# of both programs beside the kernel's own. Ends with 1 unless all are equal to the frame.
set -euo pipefail
bin=$1
count=1000000
a=efio_demo_a_$$ b=efio_demo_b_$$
work=$(mktemp -d)

receiver=
cleanup() {
  [ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true
  ip netns del "$a" 2>/dev/null || true
  ip netns del "$b" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ip netns add "$a"
ip netns add "$b"
ip link add veth0 netns "$a" type veth peer name veth1 netns "$b"
# Without IPv6 the kernel sends nothing of its own over the pair.
for end in "$a veth0" "$b veth1"; do
  read -r namespace device <<<"$end"
  ip netns exec "$namespace" sysctl -q "net.ipv6.conf.$device.disable_ipv6=1"
  ip -n "$namespace" link set "$device" up
done

kernel() {  # kernel NAMESPACE DEVICE rx|tx: frames by the kernel's count
  ip netns exec "$1" cat "/sys/class/net/$2/statistics/$3_packets"
}
field() {  # field FILE NAME: of a program's JSON, the first number of that name
  sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p" "$1"
}

bad=0
one_way() {  # one_way FROM-NAMESPACE FROM-DEVICE TO-NAMESPACE TO-DEVICE
  local sent_before received_before
  sent_before=$(kernel "$1" "$2" tx)
  received_before=$(kernel "$3" "$4" rx)
  ip netns exec "$3" "$bin/io_gen" rx "packet:$4?block=1Mi&blocks=64" --verify --count $count --duration 20 --json --say-ready \
    >"$work/rx" 2>"$work/remarks" &
  receiver=$!
  for _ in $(seq 100); do
    grep -q ready "$work/remarks" || ! kill -0 "$receiver" 2>/dev/null || sleep 0.02
  done
  ip netns exec "$1" "$bin/io_gen" tx "packet:$2" --flows 1000 --count $count --dst-mac 02:00:00:00:00:02 --json >"$work/tx" || bad=1
  wait "$receiver" || bad=1
  receiver=
  grep -v ready "$work/remarks" >&2 || true
  local program_sent program_received kernel_sent kernel_received faults
  program_sent=$(field "$work/tx" packets)
  program_received=$(field "$work/rx" packets)
  faults=0
  for kind in lost duplicated reordered untagged wrong; do faults=$((faults + $(field "$work/rx" $kind))); done
  kernel_sent=$(($(kernel "$1" "$2" tx) - sent_before))
  kernel_received=$(($(kernel "$3" "$4" rx) - received_before))
  printf '%s to %s   io_gen sent %9d   kernel sent %9d   kernel received %9d   io_gen received %9d   %s   %d frames/s\n' \
    "$2" "$4" "$program_sent" "$kernel_sent" "$kernel_received" "$program_received" \
    "$([ "$faults" = 0 ] && echo 'order and checksums right' || echo "$faults FAULTS")" \
    "$(field "$work/tx" tx_pps)"
  for counted in "$program_sent" "$kernel_sent" "$kernel_received" "$program_received"; do
    [ "$counted" = $count ] || bad=1
  done
  [ "$faults" = 0 ] || bad=1
}

one_way "$a" veth0 "$b" veth1
one_way "$b" veth1 "$a" veth0
[ $bad = 0 ] && echo "all counts are equal: $count frames each way" || echo "the counts differ" >&2
exit $bad
