"""The kernel's neighbour table agrees with an ArpTable, and with an NdpTable, after a dialogue in both roles: each asks,
and each answers."""
import os
import re
import select
import socket
import subprocess
import sys
import time

from namespaces import veth_pair, wait_until
from skip import require_root

MAC = "02:00:00:00:00:01"
# protocol: our address, the kernel's, the length of their prefix, the EtherType
LINKS = {"arp": ("10.9.0.2", "10.9.0.1", 24, 0x0806), "ndp": ("2001:db8::2", "2001:db8::1", 64, 0x86DD)}


def inside(protocol, device):
    """In the namespace: carries frames between the device and a table, asks for the kernel's address when told to, and
    says at each line of standard input what the table knows of it."""
    ours, kernels, length, ethertype = LINKS[protocol]
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    link.bind((device, ethertype))
    table = subprocess.Popen([os.path.join(os.environ["EFIO_BIN_DIR"], "neighbour_dialogue"), protocol],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(*words):
        table.stdin.write(" ".join(str(word) for word in words) + "\n")
        table.stdin.flush()
        return table.stdout.readline().rstrip("\n")

    def now():
        return int(time.monotonic() * 1000)

    def send(answer):
        for frame in answer.split(" ")[1:]:
            link.send(bytes.fromhex(frame))

    ask("local", 0, f"{ours}/{length}", MAC, "now", now())
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([link, sys.stdin], [], [], 0.05)
        if link in ready:
            frame, whence = link.recvfrom(2048)
            if whence[2] != socket.PACKET_OUTGOING:
                send(ask("frame", now(), frame.hex()))
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip() == "resolve":
                ask("resolve", 0, kernels, now())
            print(ask("state", 0, kernels, now()), flush=True)
        send(ask("poll", now()))


def say(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().split()


def agree(protocol, first):
    our_address, kernels, length, _ = LINKS[protocol]
    with veth_pair() as (kernel, ours):
        if protocol == "ndp":
            kernel.run("sysctl", "-q", f"net.ipv6.conf.{kernel.device}.disable_ipv6=0", check=True)
        kernel.run("ip", "addr", "add", f"{kernels}/{length}", "dev", kernel.device,
                   *(["nodad"] if protocol == "ndp" else []), check=True)
        kernel_mac = kernel.run("cat", f"/sys/class/net/{kernel.device}/address").stdout.strip()
        process = ours.start(sys.executable, __file__, protocol, ours.device, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "ready\n"

        def kernel_knows():
            return re.search(rf"lladdr {MAC} (router )?(REACHABLE|DELAY|STALE|PROBE)",
                             kernel.run("ip", "neigh", "show", our_address, "dev", kernel.device).stdout)

        def kernel_asks():
            # Nobody answers the ping itself: what counts is the question before it.
            kernel.run("ping", "-c", "1", "-W", "1", our_address)
            wait_until(kernel_knows, "the kernel did not resolve us", 5)
            assert "REACHABLE" in kernel_knows().group(0) or first == "we", kernel_knows().group(0)

        def we_ask():
            say(process, "resolve")
            wait_until(lambda: say(process, "state") == ["reachable", kernel_mac], "we did not resolve the kernel", 5)

        for step in ((we_ask, kernel_asks) if first == "we" else (kernel_asks, we_ask)):
            step()
        state, mac = say(process, "state")
        assert mac == kernel_mac and state in ("reachable", "probe"), (state, mac)
        assert kernel_knows(), "the kernel's table"
        print(f"{protocol}: {first} asked first: both tables agree")


if len(sys.argv) > 1:
    inside(*sys.argv[1:])
    sys.exit()

require_root()
for link in LINKS:
    for asker in ("we", "the kernel"):
        agree(link, asker)
