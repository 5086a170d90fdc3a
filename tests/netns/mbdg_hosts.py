"""Namespaces as hosts at the ports of mbdg: ping, TCP and UDP, VLANs, a port that goes away and comes back."""
import contextlib
import json
import os
import subprocess

from namespaces import interrupt, wait_until, Namespace
from skip import require_program, require_root

require_root()
for program in ("ping", "iperf3", "ethtool"):
    require_program(program)
mbdg = os.path.join(os.environ["EFIO_BIN_DIR"], "mbdg")


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, timeout=30)


@contextlib.contextmanager
def hosts_around(count, offloads=True):
    """A namespace for the bridge with p0, p1, …, and one for each host: its `eth` is the other end of p<i>."""
    middle = Namespace(f"efio_br_{os.getpid()}", "lo")
    hosts = [Namespace(f"efio_h{i}_{os.getpid()}", "eth") for i in range(count)]
    try:
        for space in [middle, *hosts]:
            ip("netns", "add", space.name)
        middle.run("sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1", check=True)
        for i, host in enumerate(hosts):
            connect(middle, host, i, offloads)
        yield middle, hosts
    finally:
        for process in [p for space in [middle, *hosts] for p in space.started if p.poll() is None]:
            process.kill()
            process.wait()
        for space in [middle, *hosts]:
            subprocess.run(["ip", "netns", "del", space.name], stderr=subprocess.DEVNULL, timeout=30)


def connect(middle, host, i, offloads=True):
    ip("link", "add", "eth", "netns", host.name, "type", "veth", "peer", "name", f"p{i}", "netns", middle.name)
    ip("-n", host.name, "link", "set", "eth", "address", f"02:00:00:00:07:0{i + 1}")  # the same when made anew
    if not offloads:
        host.run("ethtool", "-K", "eth", "tx", "off", "tso", "off", "gso", "off", check=True)
    ip("-n", host.name, "addr", "add", f"10.7.0.{i + 1}/24", "dev", "eth")
    for space, device in ((host, "eth"), (middle, f"p{i}")):
        ip("-n", space.name, "link", "set", device, "up")


@contextlib.contextmanager
def bridge(middle, *words):
    process = middle.start(mbdg, "--json", "--say-ready", *words)
    line = process.stderr.readline()
    assert "ready" in line, line + process.communicate(timeout=5)[1]
    result = {}
    try:
        yield process, result
    finally:
        if process.poll() is None:
            out, error = interrupt(process)
            print(error, end="")
            result.update(json.loads(out))
            result["code"] = process.returncode


def reaches(host, address, count=1):
    ping = host.run("ping", "-c", count, "-i", "0.02", "-W", 1, address)
    return ping.returncode == 0 and "DUP" not in ping.stdout


def conserve(result):
    total = result["copied"]
    for port in result["ports"]:
        total += port["rx"]["received"] + port["rx"]["made"] + port["tx"]["made"]
        total -= port["rx"]["waiting"] + sum(port["rx"]["dropped"].values())
        total -= port["tx"]["packets"] + port["tx"]["pending"] + sum(port["tx"]["dropped"].values())
    assert total == 0, (total, result)


def speak(hosts):
    wait_until(lambda: reaches(hosts[0], "10.7.0.2"), "no answer")
    for a in range(len(hosts)):
        for b in range(len(hosts)):
            if a != b:
                assert reaches(hosts[a], f"10.7.0.{b + 1}", 3), (a, b)
    hosts[1].start("iperf3", "-s", "-1")
    wait_until(lambda: ":5201" in hosts[1].run("ss", "-ltn").stdout, "iperf3 does not listen")
    tcp = hosts[0].run("iperf3", "-c", "10.7.0.2", "-t", "1", "-J")
    assert tcp.returncode == 0, tcp.stdout + tcp.stderr
    return json.loads(tcp.stdout)["end"]["sum_received"]["bits_per_second"]


# A switch on packet: and xdp:, and on both mixed.
for schemes in (["packet"] * 3, ["xdp"] * 3, ["packet", "xdp", "packet"]):
    with hosts_around(3, offloads=False) as (middle, hosts):
        with bridge(middle, *(f"{scheme}:p{i}" for i, scheme in enumerate(schemes))) as (_, result):
            rate = speak(hosts)
        assert result["mode"] == "switch" and result["code"] == 0, result
        assert result["table"]["size"] >= 3, result
        conserve(result)
        print(f"{' '.join(schemes)}: TCP {rate / 1e9:.2f} Gbit/s")

# A wire: two hosts, two threads.
with hosts_around(2, offloads=False) as (middle, hosts):
    with bridge(middle, "packet:p0", "packet:p1", "--cpu", "0,1") as (_, result):
        speak(hosts)
    assert result["mode"] == "wire" and result["threads"] == 2 and result["copied"] == 0, result
    conserve(result)

# VLANs: hosts 0 and 1 share one, host 2 is in another.
with hosts_around(3, offloads=False) as (middle, hosts):
    with bridge(middle, "packet:p0", "packet:p1", "packet:p2", "--vlan", "0=10", "--vlan", "1=10", "--vlan", "2=20") as (_, result):
        wait_until(lambda: reaches(hosts[0], "10.7.0.2"), "no answer in the VLAN")
        assert not reaches(hosts[0], "10.7.0.3")
    conserve(result)

# A filter, and what it drops; threads that hand over.
with hosts_around(3, offloads=False) as (middle, hosts):
    dump = f"/tmp/efio_mbdg_{os.getpid()}.pcapng"
    with bridge(middle, "packet:p0", "packet:p1", "packet:p2", "--filter", "0=not udp port 9", "--cpu", "0,1", "--dump",
                dump) as (_, result):
        wait_until(lambda: reaches(hosts[0], "10.7.0.2"), "no answer through a filter")
        hosts[0].run("python3", "-c", "import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                     "for i in range(5): s.sendto(b'x', ('10.7.0.2', 9))", check=True)
        wait_until(lambda: reaches(hosts[2], "10.7.0.2"), "no answer")
    try:
        assert result["ports"][0]["rx"]["dropped"].get("filtered") == 5, result
        assert result["handed_over"]["packets"] > 0, result
        read = subprocess.run(["tcpdump", "-nr", dump], capture_output=True, text=True, timeout=30)
        lines = read.stdout.splitlines()
        assert len(lines) == result["dumped"] and any("ICMP echo reply" in line for line in lines), read
    finally:
        os.remove(dump)

# A device that is deleted, and made anew, while the others go on.
with hosts_around(3, offloads=False) as (middle, hosts):
    with bridge(middle, "packet:p0", "packet:p1", "packet:p2") as (process, result):
        wait_until(lambda: reaches(hosts[0], "10.7.0.3"), "no answer")
        ip("-n", middle.name, "link", "del", "p2")
        assert reaches(hosts[0], "10.7.0.2", 5)
        connect(middle, hosts[2], 2, offloads=False)
        wait_until(lambda: reaches(hosts[0], "10.7.0.3"), "it did not come back")
        assert reaches(hosts[0], "10.7.0.2", 5)
        assert process.poll() is None
    assert [port["openings"] for port in result["ports"]] == [1, 1, 2], result
    assert result["code"] == 0, result

# A loop made on purpose: the switch's ports 1 and 2 are joined by a kernel bridge.
with hosts_around(3, offloads=False) as (middle, hosts):
    ip("-n", hosts[2].name, "link", "add", "loop", "type", "bridge")
    ip("link", "add", "second", "netns", hosts[2].name, "type", "veth", "peer", "name", "p3", "netns", middle.name)
    for device in ("eth", "second"):
        ip("-n", hosts[2].name, "link", "set", device, "master", "loop", "up")
    ip("-n", hosts[2].name, "link", "set", "loop", "up")
    ip("-n", middle.name, "link", "set", "p3", "up")
    with bridge(middle, "packet:p0", "packet:p1", "packet:p2", "packet:p3") as (process, result):
        hosts[0].run("ping", "-c", "2", "-W", "1", "10.7.0.99")
        line = process.stderr.readline()
        assert "is there a loop?" in line, line
    assert result["table"]["loops_suspected"] > 0, result
print("mbdg: satisfied")
