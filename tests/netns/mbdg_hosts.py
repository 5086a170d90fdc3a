"""Namespaces as hosts at the ports of mbdg: ping, TCP, UDP, DHCP and IPv6 over ports of all kinds; VLANs, filters, loops. With
EFIO_LONG=1 over three and eight ports of each kind."""
import contextlib
import os
import re
import subprocess
import tempfile

from namespaces import wait_until
from skip import require_program, require_root
from _bridged import all_pairs, await_answer, bridge, conserve, hosts_around, ip, is_long, reaches, throughput

require_root()
for program in ("ping", "iperf3", "ethtool", "dnsmasq", "busybox"):
    require_program(program)


def dhcp(server, client):
    """An address from dnsmasq, with all four messages through the bridge."""
    with tempfile.TemporaryDirectory(prefix="efio_mbdg_") as folder:
        script = os.path.join(folder, "script")
        with open(script, "w") as file:
            file.write('#!/bin/sh\necho "$1 $ip $router"\n')
        os.chmod(script, 0o755)
        dnsmasq = server.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth",
                               "--bind-interfaces", "--leasefile-ro", "--no-ping", "--dhcp-authoritative", "--pid-file=",
                               "--user=root", "--log-facility=-", "--log-dhcp",
                               "--dhcp-range=10.7.200.1,10.7.200.99,255.255.0.0,1h", f"--dhcp-option=3,{server.v4}")
        wait_until(lambda: ":67 " in server.run("ss", "-lun").stdout, "dnsmasq does not listen")
        said = client.run("busybox", "udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "eth", "-s", script)
        dnsmasq.terminate()
        log = dnsmasq.communicate(timeout=10)[1]
    assert re.search(rf"bound 10\.7\.200\.\d+ {re.escape(server.v4)}", said.stdout), (said, log)
    for message in ("DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPACK"):
        assert message in log, (message, log)


def neighbours(asking, answering):
    """IPv6 neighbour discovery by multicast, from an empty table, and what it found."""
    asking.run("ip", "-6", "neigh", "flush", "dev", "eth", check=True)
    await_answer(asking, answering.v6)
    assert answering.mac in asking.run("ip", "-6", "neigh", "show", answering.v6).stdout


def services(hosts, megabytes):
    """Everything that hosts do with each other."""
    all_pairs(hosts)
    all_pairs(hosts, 6)
    neighbours(hosts[-1], hosts[0])
    dhcp(hosts[0], hosts[1])
    dhcp(hosts[-1], hosts[0])
    tcp = throughput(hosts[0], hosts[1], "-n", f"{megabytes}M")["sum_received"]
    assert tcp["bytes"] > 0, tcp
    throughput(hosts[-1], hosts[0], "-6", "-n", f"{megabytes}M", address=hosts[-1].v6)
    udp = throughput(hosts[1], hosts[-1], "-u", "-b", "50M", "-n", f"{megabytes}M", "-l", 1200)["sum"]
    assert udp["lost_percent"] < 1 and udp["packets"] * 1200 >= megabytes << 20, udp
    return tcp["bits_per_second"]


def hosts_speak(kinds, *words):
    with hosts_around(kinds) as (middle, hosts):
        with bridge(middle, hosts, *words) as (_, result):
            rate = services(hosts, 100 if is_long else 2)
    assert result["mode"] == ("wire" if len(hosts) == 2 else "switch") and result["code"] == 0, result
    assert len(hosts) == 2 or result["table"]["size"] >= len(hosts), result
    conserve(result)
    print(f"{' '.join(host.kind for host in hosts)} {' '.join(words)}: TCP {rate / 1e9:.2f} Gbit/s")


SEND = """
import hashlib, random, socket, sys
data = random.Random(6).randbytes(int(sys.argv[2]))
with socket.create_connection((sys.argv[1], 7777), 20) as s: s.sendall(data)
print(hashlib.sha256(data).hexdigest())
"""
TAKE = """
import hashlib, socket
with socket.create_server(("", 7777)) as server:
    print("listening", flush=True)
    server.settimeout(30)
    s, digest = server.accept()[0], hashlib.sha256()
    while part := s.recv(1 << 20): digest.update(part)
print(digest.hexdigest())
"""


def segments_are_cut_behind_the_bridge(kinds):
    """With offload=on frames of up to 64 KiB pass, their checksums pending: TCP arrives whole, and is fast."""
    with hosts_around(kinds, offloads=True) as (middle, hosts):
        with bridge(middle, hosts, "--stp", "drop", options={"packet": "offload=on", "tap": "offload=on"}, offloads=True) as (_, result):
            all_pairs(hosts)
            take = hosts[1].start("python3", "-c", TAKE)
            assert take.stdout.readline() == "listening\n"
            sent = hosts[0].run("python3", "-c", SEND, hosts[1].v4, 20_000_000, check=True).stdout
            assert sent == take.communicate(timeout=30)[0], "other bytes than were sent"
            tcp = throughput(hosts[1], hosts[0], "-t", "10" if is_long else "1")["sum_received"]["bits_per_second"]
    mean = result["ports"][0]["rx"]["bytes"] / result["ports"][0]["rx"]["packets"]
    assert mean > 9000, (mean, result)
    assert not any("oversize" in port[way]["dropped"] for port in result["ports"] for way in ("rx", "tx")), result
    assert tcp > 2e9, f"{kinds}: {tcp / 1e9:.2f} Gbit/s"  # docs/mbdg.md has what a quiet machine gives
    conserve(result)
    print(f"{kinds} with offload=on: {tcp / 1e9:.1f} Gbit/s, frames of {mean:.0f} bytes")


def two_threads_are_a_wire_each_way():
    with hosts_around("packet packet") as (middle, hosts):
        with bridge(middle, hosts, "--cpu", "0,1") as (_, result):
            all_pairs(hosts)
            throughput(hosts[0], hosts[1], "-n", "10M")
    assert result["mode"] == "wire" and result["threads"] == 2 and result["copied"] == 0, result
    conserve(result)


def vlans_are_apart():
    """Hosts 0 and 1 share a VLAN, host 2 is in another."""
    with hosts_around("packet packet packet") as (middle, hosts):
        with bridge(middle, hosts, "--vlan", "0=10", "--vlan", "1=10", "--vlan", "2=20") as (_, result):
            await_answer(hosts[0], hosts[1].v4)
            assert not reaches(hosts[0], hosts[2].v4)
    conserve(result)


def a_filter_drops_and_a_dump_has_the_rest():
    """With threads that hand over."""
    with hosts_around("packet packet packet") as (middle, hosts):
        dump = f"/tmp/efio_mbdg_{os.getpid()}.pcapng"
        try:
            with bridge(middle, hosts, "--filter", "0=not udp port 9", "--cpu", "0,1", "--dump", dump) as (_, result):
                await_answer(hosts[0], hosts[1].v4)
                hosts[0].run("python3", "-c", "import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                             f"for i in range(5): s.sendto(b'x', ('{hosts[1].v4}', 9))", check=True)
                await_answer(hosts[2], hosts[1].v4)
            assert result["ports"][0]["rx"]["dropped"].get("filtered") == 5, result
            assert result["handed_over"]["packets"] > 0, result
            read = subprocess.run(["tcpdump", "-nr", dump], capture_output=True, text=True, timeout=30)
            lines = read.stdout.splitlines()
            assert len(lines) == result["dumped"] and any("ICMP echo reply" in line for line in lines), read
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(dump)


def a_loop_is_told():
    """The switch's ports 2 and 3 are joined by a kernel bridge."""
    with hosts_around("packet packet packet packet") as (middle, hosts):
        ip("-n", hosts[3].name, "link", "set", "eth", "netns", hosts[2].name, "name", "second")
        ip("-n", hosts[2].name, "link", "add", "loop", "type", "bridge")
        for device in ("eth", "second"):
            ip("-n", hosts[2].name, "link", "set", device, "master", "loop", "up")
        ip("-n", hosts[2].name, "link", "set", "loop", "up")
        with bridge(middle, hosts) as (process, result):
            hosts[0].run("ping", "-c", "2", "-W", "1", "10.7.0.99")
            line = process.stderr.readline()
            assert "is there a loop?" in line, line
        assert result["table"]["loops_suspected"] > 0, result
        conserve(result)


hosts_speak("packet xdp tap")
if is_long:
    for kind in ("packet", "xdp", "tap"):
        for words in ((), ("--cpu", "0,1")):
            hosts_speak([kind] * 3, *words)
            hosts_speak([kind] * 8, *words)
    hosts_speak("packet xdp")
    hosts_speak("packet packet packet xdp xdp xdp tap tap")
    hosts_speak("packet packet packet xdp xdp xdp tap tap", "--cpu", "0,1", "--full", "wait")
else:
    with hosts_around("packet packet packet xdp xdp xdp tap tap") as (middle, hosts):
        with bridge(middle, hosts) as (_, result):
            all_pairs(hosts)
        conserve(result)
for kinds in ("packet packet", "tap tap", "packet tap", "tap packet") if is_long else ("packet tap",):
    segments_are_cut_behind_the_bridge(kinds)
two_threads_are_a_wire_each_way()
vlans_are_apart()
a_filter_drops_and_a_dump_has_the_rest()
a_loop_is_told()
print("mbdg: satisfied")
