"""host: a program takes all frames of a device and shows the rest to the host, whose ping, ARP, IPv6 and iperf3 go on through
it, both ways; when the program is killed, the host has its device back at once."""
import json
import os
import time

from namespaces import veth_pair, wait_until
from skip import require_program, require_root

require_root()
require_program("iperf3")

example = os.path.join(os.environ["EFIO_BIN_DIR"], "beside_the_host")
io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")


def ping(namespace, address, count=5):
    done = namespace.run("ping", "-q", "-c", count, "-i", "0.1", "-W", "2", address)
    return f" {count} received" in done.stdout


def count(namespace, device, direction):
    return int(namespace.run("cat", f"/sys/class/net/{device}/statistics/{direction}_packets").stdout)


def reach_out(host):
    """To a neighbour, and by the gateway."""
    for address in ("198.18.0.2", "2001:db8::2", "203.0.113.1", "2001:db8:f::1"):
        assert ping(host, address), address + "\n" + host.run("sh", "-c", "ip route; ip -6 route; ip neigh").stdout


def start(namespace, *words):
    process = namespace.start(example, namespace.device, *words)
    line = process.stdout.readline()
    assert "TAP beside veth0, with its addresses" in line, line + process.stderr.read()
    return process


with veth_pair() as (a, b):
    for end, last in ((a, 1), (b, 2)):
        end.run("ethtool", "-K", end.device, "tx", "off", "tso", "off", "gso", "off", check=True)
        end.run("sysctl", "-q", f"net.ipv6.conf.{end.device}.disable_ipv6=0", check=True)
        end.run("ip", "addr", "add", f"198.18.0.{last}/24", "dev", end.device, check=True)
        end.run("ip", "addr", "add", f"2001:db8::{last}/64", "dev", end.device, "nodad", check=True)
    a.run("ip", "route", "add", "default", "via", "198.18.0.2", check=True)
    a.run("ip", "-6", "route", "add", "default", "via", "2001:db8::2", check=True)
    b.run("ip", "addr", "add", "203.0.113.1/32", "dev", "lo", check=True)
    b.run("ip", "-6", "addr", "add", "2001:db8:f::1/128", "dev", "lo", check=True)
    b.run("ip", "link", "set", "lo", "up", check=True)
    reach_out(a)
    assert ping(b, "198.18.0.1")
    routes = a.run("ip", "route").stdout

    program = start(a, 60)
    for namespace in (a, b):  # nobody knows anybody any more
        namespace.run("ip", "neigh", "flush", "all", check=True)
    before = count(a, "host-veth0", "rx"), count(a, "host-veth0", "tx")
    assert ping(b, "198.18.0.1") and ping(b, "2001:db8::1"), "from outside"
    reach_out(a)
    after = count(a, "host-veth0", "rx"), count(a, "host-veth0", "tx")
    assert after[0] - before[0] >= 25 and after[1] - before[1] >= 25, (before, after)
    server = a.start("iperf3", "-s", "-1", "--forceflush")
    while "listening" not in server.stdout.readline():
        pass
    flood = b.start(io_gen, "tx", f"packet:{b.device}", "--dst", "198.18.0.1", "--dport", "4000-5000", "--rate", "10k", "--count", 20000)
    throughput = b.run("iperf3", "-c", "198.18.0.1", "-t", "2", "--json")
    assert throughput.returncode == 0, throughput.stdout
    assert json.loads(throughput.stdout)["end"]["sum_received"]["bits_per_second"] > 10e6, throughput.stdout
    assert flood.wait(timeout=60) == 0

    program.kill()
    program.wait()
    wait_until(lambda: "host-veth0" not in a.run("ip", "link").stdout, "the TAP goes with the program")
    assert a.run("ip", "route").stdout == routes and ping(b, "198.18.0.1")
    reach_out(a)

    program = start(a, 3)
    time.sleep(0.5)
    b.run(io_gen, "tx", f"packet:{b.device}", "--dst", "198.18.0.1", "--dport", "4000-5000", "--rate", "10k", "--count", 2000)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0 and out == "2000 frames were ours\n", (out, err)
print("the host goes on behind a program")
