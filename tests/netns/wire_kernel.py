"""The kernel judges checksums: what efnet/wire emits and rewrites it takes, and what is damaged afterwards it counts as
wrong. Nobody listens, so that a right datagram counts as one without a port."""
import os
import random
import subprocess
import sys

from namespaces import veth_pair, wait_until
from skip import require_root

require_root()
random.seed(1624)
dump = subprocess.Popen([os.path.join(os.environ["EFIO_BIN_DIR"], "wire_dump")], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True, bufsize=1)
SEND = """
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
for line in sys.stdin: out.send(bytes.fromhex(line))
"""


def ask(*words):
    dump.stdin.write(" ".join(map(str, words)) + "\n")
    return dump.stdout.readline().strip()


def counters(namespace):
    """Of /proc/net/snmp and snmp6, by name: Udp.NoPorts, Udp6NoPorts …"""
    found = {}
    lines = namespace.run("cat", "/proc/net/snmp").stdout.splitlines()
    for names, values in zip(lines[::2], lines[1::2]):
        protocol = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:]):
            found[f"{protocol}.{name}"] = int(value)
    for line in namespace.run("cat", "/proc/net/snmp6").stdout.splitlines():
        name, value = line.split()
        found[name] = int(value)
    return found


# Each transport: what a right one and a wrong one count as, beside others of its name.
KINDS = {"udp4": ("Udp.NoPorts", "Udp.InCsumErrors"), "tcp4": ("Tcp.InSegs", "Tcp.InCsumErrors"),
         "icmp4": ("Icmp.InEchos", "Icmp.InCsumErrors"), "udp6": ("Udp6NoPorts", "Udp6InCsumErrors"),
         "icmp6": ("Icmp6InEchos", "Icmp6InCsumErrors"), "tcp6": ("Tcp.InSegs", "Tcp.InCsumErrors")}


def rewritten(kind, size):
    four = kind.endswith("4")
    raw = ask("emit", kind, size)
    port = random.randrange(1024, 65536)
    return ask("rewrite", "10.9.0.1" if four else "fd09::1", "10.9.0.2" if four else "fd09::2", port,
               port if kind.startswith("icmp") else random.randrange(20000, 30000), raw)


def damaged(text):
    raw = bytearray.fromhex(text)
    raw[-1] ^= 1 << random.randrange(8)
    return raw.hex()


with veth_pair() as (a, b):
    b.run("ip", "link", "set", b.device, "address", "02:00:00:00:00:02", check=True)
    b.run("ip", "addr", "add", "10.9.0.2/24", "dev", b.device, check=True)
    b.run("sysctl", "-q", f"net.ipv6.conf.{b.device}.disable_ipv6=0", "net.ipv4.icmp_echo_ignore_all=1", check=True)
    b.run("ip", "-6", "addr", "add", "fd09::2/64", "dev", b.device, "nodad", check=True)
    wait_until(lambda: "tentative" not in b.run("ip", "-6", "addr").stdout, "no address")
    for kind, (right, wrong) in KINDS.items():
        good = [rewritten(kind, size) for size in (0, 1, 18, 64, 65, 1400) for _ in range(5)]
        bad = [damaged(text) for text in good if len(text) > 2 * 80]
        assert all(len(text) > 80 for text in good), good
        before = counters(b)
        sent = subprocess.run(a.command(sys.executable, "-c", SEND, a.device), input="\n".join(good + bad) + "\n",
                              text=True, timeout=60, capture_output=True)
        assert sent.returncode == 0, sent.stderr
        # The kernel counts a damaged segment as one that came in, too.
        expected = len(good) + (len(bad) if kind.startswith("tcp") else 0)

        def change(name):
            return counters(b)[name] - before[name]
        wait_until(lambda: change(right) >= expected and change(wrong) >= len(bad),
                   f"{kind}: {change(right)} of {expected} right, {change(wrong)} of {len(bad)} wrong")
        assert (change(right), change(wrong)) == (expected, len(bad)), (kind, change(right), change(wrong))
        print(f"{kind}: {len(good)} taken, {len(bad)} damaged ones refused")
dump.stdin.close()
