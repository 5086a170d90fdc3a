"""Real programs through efnet, over packet: and xdp: ports: ping, a trace of the hops, TCP both ways, UDP, a file by HTTP
that must arrive equal, path MTU, a forwarded port, and the commands that speak to it. With EFIO_LONG=1 more of it: many
connections at a time, a file of 1 GB, and more sessions than there are ports."""
import hashlib
import os
import re
import signal
import subprocess
import tempfile
import time

from _gateway import EFNET, Gateway, HOST, OUTSIDE, SERVER, address_outside, connect, gateway, hosts, ip, iperf, reaches
from namespaces import wait_until
from skip import require_program, require_root

require_root()
for program in ("ping", "iperf3", "ethtool", "curl"):
    require_program(program)

# Sends a UDP packet with a time to live of 1, 2, …; prints who answered with which ICMP error.
TRACE = """
import socket, struct, sys
for ttl in (1, 2):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, <linux/in.h>
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.settimeout(2)
    s.connect((sys.argv[1], 33434))
    s.send(b'x')
    try: s.recv(1)
    except OSError: pass
    _, messages, _, _ = s.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    for level, kind, data in messages:
        if kind == 11:  # struct sock_extended_err, and behind it who complains
            print(ttl, data[5], data[6], socket.inet_ntoa(data[20:24]))
"""
# Answers each datagram with its own text and the address that it seems to come from.
ANSWER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('203.0.113.5', 53))
print('listens', flush=True)
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data + b' ' + peer[0].encode(), peer)
"""
ASK = """
import socket
sockets = []
for i in range(200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect(('203.0.113.5', 53))
    s.send(b'query %d' % i)
    sockets.append(s)
answers = [s.recv(2000) for s in sockets]
assert answers == [b'query %d 198.51.100.2' % i for i in range(200)], answers
"""
KEPT = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect(('203.0.113.5', 53))
for word in ('has one', 'goes on'):
    s.send(b'x')
    s.recv(100)
    print(word, flush=True)
    if word == 'has one': input()
"""
FORWARDED = """
import socket
s = socket.socket()
s.settimeout(3)
s.connect(('198.51.100.2', 8080))
print(s.recv(100).decode())
"""
GREETER = """
import socket
s = socket.create_server(('10.0.0.7', 80))
print('listens', flush=True)
c, peer = s.accept()
c.sendall(b'hello ' + peer[0].encode())
"""
FORWARD = '[[forward]]\noutside = "198.51.100.2:8080"\ninside = "10.0.0.7:80"\n'


def started(space, script):
    process = space.start("python3", "-c", script)
    assert process.stdout.readline() == "listens\n", process.communicate(timeout=5)
    return process


def fetch(inside, outside, megabytes):
    """A file by HTTP; both ends' checksums."""
    with tempfile.TemporaryDirectory() as folder:
        data = hashlib.sha256()
        with open(os.path.join(folder, "file"), "wb") as file:
            for _ in range(megabytes):
                block = os.urandom(1_000_000)
                data.update(block)
                file.write(block)
        server = outside.start("python3", "-m", "http.server", "8000", "--bind", SERVER, "--directory", folder)
        wait_until(lambda: ":8000" in outside.run("ss", "-ltn").stdout, "the web server does not listen")
        got = inside.run("bash", "-o", "pipefail", "-c", f"curl -s -S http://{SERVER}:8000/file | sha256sum")
        server.kill()
        server.wait()
        assert got.returncode == 0 and got.stdout.split()[0] == data.hexdigest(), got


def busy_share(process, seconds):
    """Of a processor, while nothing happens. `ip netns exec` has become the program."""
    def ticks():
        with open(f"/proc/{process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


LONG = os.environ.get("EFIO_LONG") == "1"

for scheme, options in (("packet", ""), ("xdp", ""), ("packet", "?offload=on")):
    # With offload=on the hosts leave segments and checksums to devices, as they do by default.
    with hosts(offloads=options != "") as (middle, inside, outside):
        with gateway(middle, scheme, more=FORWARD, options=options) as gate:
            wait_until(lambda: reaches(inside, SERVER), "no answer")
            assert reaches(inside, SERVER, 5) and reaches(inside, "10.0.0.1", 2) and reaches(inside, OUTSIDE, 2)
            assert reaches(outside, OUTSIDE, 2) and not reaches(outside, HOST, patience=0.2)

            hops = inside.run("python3", "-c", TRACE, SERVER).stdout.splitlines()
            assert hops == ["1 11 0 10.0.0.1", f"2 3 3 {SERVER}"], hops

            amount = ("-t", "10") if LONG else ("-n", "30M")
            rates = iperf(inside, outside, *amount), iperf(inside, outside, *amount, "-R")
            if LONG:
                for flows in ("16", "128"):
                    assert iperf(inside, outside, "-t", "5", "-P", flows) > 0 and iperf(inside, outside, "-t", "5", "-P", flows, "-R") > 0
                assert iperf(inside, outside, "-u", "-b", "100M", "-t", "5") > 95e6
            started(outside, ANSWER)
            asked = inside.run("python3", "-c", ASK)
            assert asked.returncode == 0, asked.stderr
            fetch(inside, outside, 1000 if LONG else 5)

            started(inside, GREETER)
            greeted = outside.run("python3", "-c", FORWARDED)
            assert greeted.stdout == "hello 198.51.100.1\n", greeted

            sessions = gate.ask("show", "sessions", "--protocol", "udp", "--remote", SERVER)
            asked = [row for row in sessions if row["remote"] == f"{SERVER}:53"]
            assert len(asked) == 200 and all(row["inside"].startswith(HOST) for row in asked), sessions
            outside_end = asked[0]["outside"]
            owner = gate.ask("explain", outside_end)
            assert [row["inside"] for row in owner if row["protocol"] == "udp"] == [asked[0]["inside"]], owner
            share = busy_share(gate.process, 10 if LONG else 0.5)
            assert share <= (0.01 if LONG else 0.05), share  # ticks of the clock are 10 ms
        assert gate.result["code"] == 0, gate.result
        print(f"{scheme}{options}: TCP {rates[0] / 1e9:.2f} Gbit/s out, {rates[1] / 1e9:.2f} in; idle {100 * share:.1f} % of a core")

# A link outside that takes less than the one inside: whoever sends too much is told, and TCP goes on.
with hosts() as (middle, inside, outside):
    for space, device in ((middle, "go"), (outside, "eth")):
        ip("-n", space.name, "link", "set", device, "mtu", 1400)
    with gateway(middle, "packet") as gate:
        wait_until(lambda: reaches(inside, SERVER), "no answer")
        too_big = inside.run("ping", "-c", 1, "-W", 1, "-M", "do", "-s", 1450, SERVER)
        assert re.search(r"10\.0\.0\.1.*mtu = 1400", too_big.stdout), too_big.stdout
        inside.run("ip", "route", "flush", "cache")
        assert iperf(inside, outside, "-n", "2M") > 0

        # The commands.
        assert {row["to"]: row["by"] for row in gate.ask("show", "routes")}["0.0.0.0/0"] == "198.51.100.1"
        known = {(row["side"], row["address"]): row["mac"] for row in gate.ask("show", "arp")}
        assert known["inside", HOST] == "02:00:00:00:01:07", known
        assert gate.ask("arp", "flush", HOST) == [{"forgotten": 1}]
        assert reaches(inside, SERVER)
        assert gate.ask("drain") == []
        assert not reaches(inside, "198.51.100.1", patience=0.2), "a session was begun"
        assert gate.ask("drain", "off") == [] and reaches(inside, "198.51.100.1")
        assert gate.ask("show", "mappings", "--limit", "1")[0]["inside"].startswith(HOST)
        assert [row["lent"] for row in gate.ask("show", "pool") if row["protocol"] == "tcp"][0] > 0
        assert [row["side"] for row in gate.ask("show", "ports")] == ["inside", "outside"]
        assert "no address" not in gate.ask("show", "counters")[0]["nat"]
        assert "such as" in gate.ask("explain", "nonsense")
        assert gate.ask("flush")[0]["ended"] > 0 and gate.ask("show", "sessions") == []

        # The outside device goes, and comes back.
        ip("-n", middle.name, "link", "del", "go")
        assert reaches(inside, "10.0.0.1", 3)
        connect(middle, outside, "go")
        address_outside(outside)
        wait_until(lambda: reaches(inside, SERVER), "it did not come back")
        assert gate.process.poll() is None
    assert [port["openings"] for port in gate.result["ports"]] == [1, 2], gate.result
    assert gate.result["code"] == 0, gate.result

# An idle connection lives through a reload, by the command and by SIGHUP, and through a restart with --state.
IDLE = """
import socket
s = socket.create_connection(('203.0.113.5', 7), timeout=5)
for word in ('connected', 'reloaded', 'restarted'):
    s.sendall(b'x')
    assert s.recv(1) == b'x'
    print(word, flush=True)
    input()
"""
ECHO = """
import socket
s = socket.create_server(('203.0.113.5', 7))
print('listens', flush=True)
c, _ = s.accept()
while data := c.recv(100): c.sendall(data)
"""
with hosts() as (middle, inside, outside), tempfile.TemporaryDirectory(prefix="efio_gateway_") as folder:
    gate = Gateway(middle, folder)
    state = os.path.join(folder, "state")
    log = os.path.join(folder, "log")
    logged = f'[log]\nfile = "{log}"\n'
    gate.write("packet", more=logged)
    started(outside, ECHO)
    with gate.running("--state", state):
        wait_until(lambda: reaches(inside, SERVER), "no answer")
        idle = inside.start("python3", "-c", IDLE, stdin=subprocess.PIPE)
        assert idle.stdout.readline() == "connected\n", idle.communicate(timeout=5)
        mine = gate.ask("show", "sessions", "--remote", SERVER, "--port", "7")[0]
        time.sleep(0.2)  # the log is written every 100 ms
        then = gate.ask("explain", mine["outside"], f"@{time.time() + 1:.0f}")
        assert [row["inside"] for row in then] == [mine["inside"]], then
        assert gate.ask("explain", mine["outside"], "@2020-01-01T00:00:00Z") == []
        gate.write("packet", more=logged + '[[route]]\nto = "192.0.2.0/24"\nby = "198.51.100.1"\n')
        reloaded = gate.ask("reload")
        assert reloaded[0]["sessions"] >= 1 and reloaded[0]["refused"] == 0, reloaded
        assert {row["to"] for row in gate.ask("show", "routes")} >= {"192.0.2.0/24"}
        gate.write("packet", more="[nat]\nsessions = 0\n")
        assert "gateway.toml:11: sessions" in gate.ask("reload")
        gate.write("packet", more=logged + "[nat]\nsessions = 1000\n")
        gate.process.send_signal(signal.SIGHUP)
        assert "is read again" in gate.process.stderr.readline()
        idle.stdin.write("\n"), idle.stdin.flush()
        assert idle.stdout.readline() == "reloaded\n", idle.communicate(timeout=5)
    with gate.running("--state", state):
        idle.stdin.write("\n"), idle.stdin.flush()
        assert idle.stdout.readline() == "restarted\n", idle.communicate(timeout=5)
    with open(state, "r+b") as file:  # damaged
        file.seek(40)
        file.write(b"nonsense")
    with gate.running("--state", state):
        assert gate.ask("show", "sessions") == []
    assert gate.result["code"] == 0

# More sessions than there are ports: those that there are go on, and the host is told why it gets no more.
if LONG:
    with hosts() as (middle, inside, outside):
        with gateway(middle, "packet", more='[nat]\npool = ["198.51.100.2:1024-1123"]\n') as gate:
            wait_until(lambda: reaches(inside, SERVER), "no answer")
            started(outside, ANSWER)
            kept = inside.start("python3", "-c", KEPT, stdin=subprocess.PIPE)
            assert kept.stdout.readline() == "has one\n"
            refused = inside.run("python3", "-c", ASK)
            assert "No route to host" in refused.stderr, refused  # what ICMP 3/13 becomes
            assert kept.communicate("go on\n", timeout=10)[0] == "goes on\n"
        assert gate.result["nat"]["inside"]["ports_exhausted"] > 0, gate.result

usage = subprocess.run([EFNET, "check", "/nowhere.toml"], capture_output=True, text=True, timeout=30)
assert usage.returncode == 3 and "/nowhere.toml" in usage.stderr, usage
print("efnet: satisfied")
