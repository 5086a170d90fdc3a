"""A gateway between an inside host and an outside one, each a network namespace, for the tests of efnet.

    inside (eth 10.0.0.7/24) -- gi [efnet: 10.0.0.1, 198.51.100.2] go -- (eth 198.51.100.1/24, lo 203.0.113.5) outside

The outside knows no way to 10.0.0.0/8: what was not translated gets no answer.
"""
import contextlib
import json
import os
import subprocess
import tempfile

from namespaces import interrupt, wait_until, Namespace

EFNET = os.path.join(os.environ["EFIO_BIN_DIR"], "efnet")
SERVER = "203.0.113.5"
OUTSIDE = "198.51.100.2"
HOST = "10.0.0.7"


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, timeout=30)


def connect(middle, host, device, offloads=False):
    ip("link", "add", "eth", "netns", host.name, "type", "veth", "peer", "name", device, "netns", middle.name)
    if not offloads:
        host.run("ethtool", "-K", "eth", "tx", "off", "tso", "off", "gso", "off", check=True)
    for space, name in ((host, "eth"), (middle, device)):
        ip("-n", space.name, "link", "set", name, "up")


def address_inside(host):
    for word in (["link", "set", "eth", "address", "02:00:00:00:01:07"], ["addr", "add", f"{HOST}/24", "dev", "eth"],
                 ["route", "add", "default", "via", "10.0.0.1"]):
        ip("-n", host.name, *word)


def address_outside(host):
    for word in (["link", "set", "eth", "address", "02:00:00:00:02:01"], ["addr", "add", "198.51.100.1/24", "dev", "eth"]):
        ip("-n", host.name, *word)


@contextlib.contextmanager
def hosts(offloads=False):
    """Namespaces: the gateway's, the inside host's, the outside host's."""
    middle, inside, outside = spaces = [Namespace(f"efio_{name}_{os.getpid()}", "eth") for name in ("gw", "in", "out")]
    try:
        for space in spaces:
            ip("netns", "add", space.name)
            space.run("sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", check=True)
            ip("-n", space.name, "link", "set", "lo", "up")
        connect(middle, inside, "gi", offloads)
        connect(middle, outside, "go", offloads)
        address_inside(inside)
        address_outside(outside)
        ip("-n", outside.name, "addr", "add", f"{SERVER}/32", "dev", "lo")
        yield middle, inside, outside
    finally:
        for process in [p for space in spaces for p in space.started if p.poll() is None]:
            process.kill()
            process.wait()
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space.name], stderr=subprocess.DEVNULL, timeout=30)


class Gateway:
    def __init__(self, middle, folder):
        self.middle, self.folder = middle, folder
        self.control = os.path.join(folder, "control")
        self.file = os.path.join(folder, "gateway.toml")
        self.result = {}

    def write(self, scheme, more="", inside="", outside="", options=""):
        with open(self.file, "w") as file:
            file.write(f'[inside]\nport = "{scheme}:gi{options}"\naddress = "10.0.0.1/24"\n{inside}\n'
                       f'[outside]\nport = "{scheme}:go{options}"\naddress = "{OUTSIDE}/24"\ngateway = "198.51.100.1"\n{outside}\n{more}\n')

    def ask(self, *words):
        """Rows of `efnet WORDS`, or the error as text."""
        done = subprocess.run([EFNET, *words, "--control", self.control, "--json"], capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            return done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextlib.contextmanager
    def running(self, *words):
        self.process = self.middle.start(EFNET, "run", self.file, "--json", "--say-ready", "--control", self.control, *words)
        said = ""
        while "ready" not in said:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        try:
            yield self
        except BaseException:
            if self.process.poll() is None:
                out, error = interrupt(self.process)
                print(error, out)
            raise
        out, error = interrupt(self.process)
        print(error, end="")
        self.result = json.loads(out)
        self.result["code"] = self.process.returncode
        conserve(self.result)


def conserve(result):
    """Every frame that came in went out, was dropped under a reason, or is accounted for as docs/gateway.md says."""
    total = 0
    for port in result["ports"]:
        rx, tx = port["rx"], port["tx"]
        assert rx["received"] + rx["made"] == rx["packets"] + rx["waiting"] + sum(rx["dropped"].values()), port
        assert tx["offered"] + tx["made"] == tx["packets"] + tx["pending"] + sum(tx["dropped"].values()), port
        total += rx["packets"] - tx["offered"]
    for side in ("inside", "outside"):
        total += result["gateway"][side]["made"] - result["nat"][side].get("kept", 0)
        total -= result["nat"][side].get("fragmented", 0)
        for plugin in result["arp_and_ping"][side].values():
            total += plugin["released"] + plugin["discarded"] - plugin["taken"]
    assert total == 0, (total, result)


@contextlib.contextmanager
def gateway(middle, scheme, **settings):
    with tempfile.TemporaryDirectory(prefix="efio_gateway_") as folder:
        it = Gateway(middle, folder)
        it.write(scheme, **settings)
        with it.running():
            yield it


def reaches(host, address, count=1, patience=1):
    ping = host.run("ping", "-c", count, "-i", "0.02", "-W", patience, address)
    return ping.returncode == 0 and "DUP" not in ping.stdout


def iperf(inside, outside, *words):
    """Bits a second that arrived."""
    server = outside.start("iperf3", "-s", "-1", "-B", SERVER)
    wait_until(lambda: ":5201" in outside.run("ss", "-ltn").stdout, "iperf3 does not listen")
    client = inside.run("iperf3", "-c", SERVER, "-J", *words)
    server.communicate(timeout=20)
    assert client.returncode == 0, client.stdout + client.stderr
    end = json.loads(client.stdout)["end"]
    return end["sum_received" if "sum_received" in end else "sum"]["bits_per_second"]
