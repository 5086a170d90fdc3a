"""Bad calls of io_gen: each gives one line on standard error that says what, on what, why and what to try, and the right
exit code; nothing is printed as a result, and nothing is left behind."""
import os
import resource
import shutil
import struct
import subprocess
import tempfile

from namespaces import veth_pair
from skip import require_program, require_root

io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
usage, device = 2, 3


def check(code, words, *said, by=(), results=False, limits=None, where=None):
    """The call ends with `code` and one line that contains each of `said`."""
    def limit():
        for what, most in (limits or {}).items():
            resource.setrlimit(what, (most, most))
    command = [*by, io_gen, *map(str, words)]
    if where:
        command = where.command(*command)
    before = leavings()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    context = f"{words}: exit {ended.returncode}, stderr {ended.stderr!r}, stdout {ended.stdout!r}"
    assert ended.returncode == code, context
    assert ended.stderr.count("\n") == 1 and ended.stderr.startswith("io_gen: "), context
    for text in said:
        assert text in ended.stderr, f"{text!r} is not in {context}"
    assert results or ended.stdout == "", context
    assert leavings() == before, context


def leavings():
    """What a failed call might leave: interfaces and shared memory."""
    return sorted(os.listdir("/sys/class/net")), sorted(os.listdir("/dev/shm"))


def words_that_are_wrong():
    tx = ["tx", "pipe:x"]
    check(usage, [], "subcommand", "--help")
    check(usage, ["nonsense"], "nonsense", "tx, rx, both, table or rfc2544")
    check(usage, ["tx"], "PORT")
    check(usage, ["both", "pipe:x"], "RXPORT")
    check(usage, ["both", "pipe:x", "pipe:x", ""], "empty word")
    check(usage, [*tx, "--bogus"], "--bogus", "--help")
    check(usage, [*tx, "--count"], "--count")
    check(usage, ["both", "pipe:x", "pipe:x", "--threads", 3], "--threads", "3")
    check(usage, [*tx, "--count", 0], "--count 0", "1 to")
    for absurd in ("-1", "1e30", "99999999999999999999", "many", "0x10", "1,000", "", " "):
        check(usage, [*tx, "--count=" + absurd], "--count")
    check(usage, [*tx, "--duration", 0], "--duration 0")
    check(usage, [*tx, "--duration", "1000000h"], "--duration 1000000h")
    check(usage, [*tx, "--duration", "-5"], "--duration -5")
    check(usage, [*tx, "--batch", 0], "--batch 0", "1 to 1024")
    check(usage, [*tx, "--batch", 5000], "--batch 5000")
    check(usage, [*tx, "--seed", "abc"], "--seed abc")
    check(usage, [*tx, "--stream-base", 65536], "--stream-base 65536")
    check(usage, [*tx, "--cpu", "3000"], "--cpu 3000")
    check(usage, [*tx, "--cpu", "0,0"], "--cpu 0,0", "twice")
    check(usage, [*tx, "--cpu", "a"], "--cpu a")
    check(device, [*tx, "--count", 1, "--cpu", 1023], "processor 1023")


def frames_that_cannot_be():
    tx = ["tx", "pipe:x", "--count", 1]
    for size in ("63", "0", "99999999", "1518-64", "64-", "-64", "big", "64-70000", "18446744073709551680"):
        check(usage, [*tx, f"--size={size}"], "--size", size)
    check(usage, [*tx, "--size", 3000], "3000", "1924")  # more than the port takes
    check(usage, [*tx, "--size", 64, "--dst", "2001:db8::1"], "--size 64", "84", "--no-tag")
    check(usage, [*tx, "--size", 64, "--proto", "tcp"], "--size 64", "76")
    check(usage, [*tx, "--size", "imix", "--proto", "tcp"], "76")
    check(usage, [*tx, "--flows", 0], "--flows 0")
    check(usage, [*tx, "--flows", "20M"], "--flows 20M")
    check(usage, [*tx, "--flows", 100, "--src", "10.0.0.1", "--sport", "5"], "--flows 100", "give 1")
    check(usage, [*tx, "--src", "10.0.0.9-10.0.0.1"], "--src 10.0.0.9-10.0.0.1")
    check(usage, [*tx, "--src", "10.0.0.256"], "--src 10.0.0.256")
    check(usage, [*tx, "--src", "2001:db8::/64"], "/96")
    check(usage, [*tx, "--src", "10.0.0.1", "--dst", "::1"], "IPv4", "IPv6")
    check(usage, [*tx, "--sport", "70000"], "--sport 70000")
    check(usage, [*tx, "--proto", "icmp", "--dport", "1-2"], "--sport")
    check(usage, [*tx, "--proto", "sctp"], "sctp")
    check(usage, [*tx, "--src-mac", "02:00"], "--src-mac 02:00")
    check(usage, [*tx, "--vlan", 4095], "--vlan 4095")
    check(usage, [*tx, "--vlan", "1,2,3,4,5"], "--vlan", "4")
    for rate in ("0", "fast", "-1", "1e300", "100000Gbit", "2Gbyte"):
        check(usage, [*tx, "--rate", rate], f"--rate {rate}")
    check(usage, ["table", "--tx", "pipe:x"], "--tx pipe:x", "both")


def ports_that_are_not_there():
    for words in (["tx", "{}", "--count", 1], ["rx", "{}", "--count", 1], ["both", "pipe:x", "{}", "--count", 1]):
        def call(uri):
            return [uri if word == "{}" else word for word in words]
        check(usage, call(""), "empty word")
        check(usage, call("nosuch:x"), "nosuch", "pipe")
        check(usage, call("pipe:x?colour=red"), "colour")
        check(usage, call("pipe:x?ring=0"), "ring=0")
        check(usage, call("pipe:x?ring=99999999999999999999"), "ring=")
        check(device, call("packet:nosuch0"), "nosuch0")
        check(usage, call("packet:" + "long" * 10), "long")
    check(device, ["rx", "pcap:/nonexistent/file.pcap"], "/nonexistent/file.pcap")
    check(device, ["tx", "pcap:/nonexistent/file.pcap", "--count", 1], "/nonexistent/file.pcap")


def captures_that_are_damaged(work):
    whole = os.path.join(work, "whole.pcap")
    assert subprocess.run([io_gen, "tx", f"pcap:{whole}", "--count", "100"], capture_output=True, timeout=60).returncode == 0
    with open(whole, "rb") as file:
        data = file.read()
    damaged = os.path.join(work, "damaged.pcap")

    def damage(content, *said, results=True):
        with open(damaged, "wb") as file:
            file.write(content)
        check(device, ["rx", f"pcap:{damaged}"], damaged, *said, results=results)
    damage(data[:-7])
    damage(data[:24 + 16 + 3])
    damage(data[:20], results=False)
    damage(b"", results=False)
    damage(b"no capture, only text " * 10, results=False)
    damage(data[:24] + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 60) + data[40:])


def full_disks(work):
    for name in ("pcap:/dev/full", "pcap:/dev/full?format=pcapng"):
        check(device, ["tx", name, "--count", 100000], "/dev/full", "space", results=True)
    require_program("mount")
    disk = os.path.join(work, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True, timeout=30)
    try:
        for name in ("a.pcap", "a.pcapng"):
            check(device, ["tx", f"pcap:{disk}/{name}", "--count", 100000], f"{disk}/{name}", "space", results=True)
            os.unlink(f"{disk}/{name}")
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)
    with open("/dev/full", "w") as full:
        ended = subprocess.run([io_gen, "both", "pipe:x", "pipe:x", "--count", "1", "--json"], stdout=full,
                               stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == device and "standard output" in ended.stderr and ended.stderr.count("\n") == 1, ended


def limits_on_memory():
    check(device, ["both", "pipe:x?ring=65536", "pipe:x", "--count", 1], "memory", limits={resource.RLIMIT_AS: 128 << 20})
    check(device, ["tx", "pipe:x", "--count", 1, "--flows", "16M"], "memory", limits={resource.RLIMIT_AS: 128 << 20})


def without_privilege(a):
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    check(device, ["tx", f"packet:{a.device}", "--count", 1], a.device, "CAP_NET_RAW", by=nobody, where=a)
    check(device, ["rx", f"packet:{a.device}", "--count", 1], a.device, "CAP_NET_RAW", by=nobody, where=a)


with tempfile.TemporaryDirectory(prefix="efio_io_gen_") as directory:
    words_that_are_wrong()
    frames_that_cannot_be()
    ports_that_are_not_there()
    captures_that_are_damaged(directory)
    limits_on_memory()
    require_root()
    full_disks(directory)
    require_program("setpriv")
    with veth_pair() as (one, _):
        # Copied to where nobody may read: the tree itself may be closed to others.
        program = os.path.join(directory, "io_gen")
        shutil.copy(io_gen, program)
        os.chmod(directory, 0o755)
        io_gen = program
        without_privilege(one)
