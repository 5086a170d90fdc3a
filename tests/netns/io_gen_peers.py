"""io_gen and programs of others over a veth pair: what it sends as tcpdump and tshark see it, what tcpreplay and trafgen
send as it receives it."""
import collections
import json
import os
import struct
import subprocess
import tempfile

from namespaces import veth_pair
from skip import require_program, require_root

require_root()
for program in ("tcpdump", "tshark", "tcpreplay", "trafgen"):
    require_program(program)

io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
work = tempfile.TemporaryDirectory(prefix="efio_io_gen_")


def path(name):
    return os.path.join(work.name, name)


def read_pcap(name):
    """The frames of a little-endian pcap file."""
    with open(name, "rb") as file:
        data = file.read()
    at, frames = 24, []
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def write_pcap(name, frames):
    with open(name, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for i, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 1 + i // 1000000, i % 1000000, len(frame), len(frame)) + frame)


def read_pcapng(name):
    """The frames of a little-endian pcapng file: the enhanced packet blocks' data."""
    with open(name, "rb") as file:
        data = file.read()
    at, frames = 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 6:
            length = struct.unpack_from("<I", data, at + 20)[0]
            frames.append(data[at + 28:at + 28 + length])
        at += size
    return frames


def tcpdump_while(end, count, action, capture):
    """What io_gen sends while `action` runs, as tcpdump at the other end writes it: `count` frames, no more by the
    kernel's own count."""
    dump = end.start("tcpdump", "-i", end.device, "-n", "-s", "0", "-B", "262144", "-c", count, "-w", capture)
    while "listening on" not in dump.stderr.readline():
        assert dump.poll() is None, "tcpdump does not start"
    before = end.count("rx")
    result = action()
    assert result.returncode == 0 and result.stderr.count("\n") <= 1, result.stderr
    _, said = dump.communicate(timeout=60)
    assert "\n0 packets dropped by kernel" in said, said
    assert end.count("rx") - before == count
    return json.loads(result.stdout)["ports"][0]["tx"]["packets"]


def tshark(capture, wanted):
    """How many frames of the capture tshark shows under a filter. Port 9 is said to carry data: else tshark takes the
    tag for what it knows of the other port."""
    found = subprocess.run(["tshark", "-n", "-r", capture, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
                            "-o", "tcp.check_checksum:TRUE", "-d", "udp.port==9,data", "-d", "tcp.port==9,data",
                            "-Y", wanted, "-T", "fields", "-e", "frame.number"],
                           capture_output=True, text=True, timeout=300, check=True).stdout
    return len(found.splitlines())


faulty = ("_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.checksum.status == 0 || "
          "icmp.checksum.status == 0 || icmpv6.checksum.status == 0")


def a_million_frames_are_seen_whole():
    count, flows = (1_000_000 if os.environ.get("EFIO_LONG") == "1" else 200_000), 1000
    capture = path("million.pcap")
    with veth_pair() as (a, b):
        sent = tcpdump_while(b, count, lambda: a.run(io_gen, "tx", f"packet:{a.device}", "--count", count, "--flows", flows,
                                              "--rate", "250k", "--json", "--expect-sent", count), capture)
        assert sent == a.count("tx") == count, (sent, a.count("tx"))
    frames = read_pcap(capture)
    assert len(frames) == count, len(frames)
    assert all(len(frame) == 60 for frame in frames)
    # Source and destination address and port: each flow as often as any other, and by addresses and ports both.
    spread = collections.Counter(frame[26:38] for frame in frames)
    assert len(spread) == flows and set(spread.values()) == {count // flows}, len(spread)
    assert len({flow[:4] for flow in spread}) == 254 and len({flow[8:10] for flow in spread}) == 4
    names = {frame[44:52] for frame in frames}
    assert len(names) == count, "a stream's sequence number came twice"
    assert tshark(capture, "udp.checksum.status == 1 && ip.checksum.status == 1 && !_ws.malformed") == count
    print(f"{count} frames: count, spread and checksums right")


def every_kind_of_frame_is_right():
    kinds = {
        "imix": ("--size imix", "udp.checksum.status == 1"),
        "sizes": ("--size 64-1518 --flows 7", "udp.checksum.status == 1"),
        "tcp": ("--proto tcp --size 76-200", "tcp.checksum.status == 1"),
        "icmp": ("--proto icmp --flows 100", "icmp.checksum.status == 1"),
        "udp6": ("--src 2001:db8::1-2001:db8::99 --dst 2001:db8:1::1 --size 84-300 --flows 50", "udp.checksum.status == 1"),
        "tcp6": ("--dst 2001:db8:1::1 --proto tcp --size 96", "tcp.checksum.status == 1"),
        "icmp6": ("--dst 2001:db8:1::1 --proto icmp --size 84-120", "icmpv6.checksum.status == 1"),
        "vlan": ("--vlan 100 --size 68", "vlan.id == 100 && udp.checksum.status == 1"),
        "qinq": ("--vlan 10,20 --size 72", "ieee8021ad.id == 10 && vlan.id == 20 && udp.checksum.status == 1"),
        "random": ("--flows 65536 --order random --seed 7", "udp.checksum.status == 1"),
        "untagged": ("--no-tag --dst-mac 02:00:00:00:00:07", "eth.dst == 02:00:00:00:00:07 && udp.checksum.status == 1"),
    }
    count = 3000
    with veth_pair() as (a, b):
        for name, (options, right) in kinds.items():
            capture = path(name + ".pcap")
            sent = tcpdump_while(b, count, lambda: a.run(io_gen, "tx", f"packet:{a.device}", "--count", count, "--json",
                                                  "--rate", "100k", *options.split()), capture)
            assert sent == count, (name, sent)
            assert tshark(capture, faulty) == 0, (name, tshark(capture, faulty))
            assert tshark(capture, right) == count, (name, tshark(capture, right))
    print(f"{len(kinds)} kinds of frames: none malformed, all checksums right")


def receive_into(end, output, count, send):
    """io_gen receives `count` frames into a pcapng file while `send` runs; what it printed."""
    receiver = end.start(io_gen, "rx", f"packet:{end.device}", "--count", count, "--duration", "30s", "--write", output,
                         "--json", "--expect-received", count, "--say-ready")
    assert receiver.stderr.readline() == "io_gen: ready\n"
    send()
    out, err = receiver.communicate(timeout=60)
    assert receiver.returncode == 0 and err == "", (receiver.returncode, err, out)
    return json.loads(out)


def what_tcpreplay_sends_is_written_as_it_was():
    original = [bytes((i * 7 + k * 13) & 0xFF for k in range(length))
                for i, length in enumerate([60, 61, 64, 100, 590, 1000, 1513, 1514] * 250)]
    # An EtherType that no one answers, addresses that are unicast.
    original = [b"\x02" + frame[1:6] + b"\x02" + frame[7:12] + b"\x88\xb5" + frame[14:] for frame in original]
    write_pcap(path("original.pcap"), original)
    with veth_pair() as (a, b):
        told = receive_into(b, path("copy.pcapng"), len(original), lambda: a.run(
            "tcpreplay", "-i", a.device, "--pps", "20000", path("original.pcap"), check=True))
    assert told["sequence"]["untagged"] == len(original), told
    assert read_pcapng(path("copy.pcapng")) == original
    assert tshark(path("copy.pcapng"), "frame") == len(original)
    print(f"{len(original)} frames from tcpreplay: pcapng equal to the original, byte for byte")


def what_trafgen_sends_is_written_as_it_was():
    frame = bytes.fromhex("020000000007 020000000009 88b5") + bytes(range(100))
    with open(path("trafgen.cfg"), "w") as file:
        file.write("{ " + ", ".join(hex(byte) for byte in frame) + " }\n")
    count = 1000
    with veth_pair() as (a, b):
        receive_into(b, path("trafgen.pcapng"), count, lambda: a.run(
            "trafgen", "-o", a.device, "-i", path("trafgen.cfg"), "-n", count, "-P", 1, "-t", "50us", check=True))
    assert read_pcapng(path("trafgen.pcapng")) == [frame] * count
    print(f"{count} frames from trafgen: pcapng equal to what was asked for, byte for byte")


with work:
    a_million_frames_are_seen_whole()
    every_kind_of_frame_is_right()
    what_tcpreplay_sends_is_written_as_it_was()
    what_trafgen_sends_is_written_as_it_was()
