"""scapy judges efnet/wire: what it builds we must read as it does and sum as it does, and the other way round."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

from skip import require

try:
    warnings.simplefilter("ignore")
    from scapy.all import (ARP, Dot1Q, Ether, ICMP, IP, IPOption_Router_Alert, IPv6, IPv6ExtHdrDestOpt,
                           IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, Raw, TCP, UDP,
                           ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6PacketTooBig,
                           ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU,
                           ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, ICMPv6TimeExceeded, fragment, fragment6, wrpcap)
    from scapy.utils import checksum
except ImportError as error:
    require(False, f"needs scapy: {error}")

random.seed(1071)
dump = subprocess.Popen([os.path.join(os.environ["EFIO_BIN_DIR"], "wire_dump")], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True, bufsize=1)
failures = 0
checks = 0


def ask(*words):
    dump.stdin.write(" ".join(str(word) for word in words) + "\n")
    dump.stdin.flush()
    return dump.stdout.readline().rstrip("\n")


def same(what, ours, theirs):
    global failures, checks
    checks += 1
    if ours != theirs:
        failures += 1
        print(f"{what}:\n  efnet {ours}\n  scapy {theirs}")


def fields(text):
    return dict(pair.split("=", 1) for pair in text.split(" "))


def strings(values):
    return {key: str(value) for key, value in values.items()}


MACS = dict(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
# Tags as (TPID, VID, priority, DEI), outermost first.
STACKS = [[], [(0x8100, 100, 5, 0)], [(0x88A8, 100, 5, 1), (0x8100, 4094, 0, 0)],
          [(0x88A8, 1, 0, 0), (0x88A8, 2, 7, 0)]]


def tci(tag):
    return tag[2] << 13 | tag[3] << 12 | tag[1]


def framed(packet, stack=()):
    """Ethernet, the tags, and the packet. Every type is set by hand: an inner tag's TPID is the type before it."""
    types = [tag[0] for tag in stack] + [{IP: 0x0800, IPv6: 0x86DD, ARP: 0x0806}[type(packet)]]
    frame = Ether(type=types[0], **MACS)
    for tag, following in zip(stack, types[1:]):
        frame /= Dot1Q(vlan=tag[1], prio=tag[2], id=tag[3], type=following)
    return frame / packet


def built(frame):
    """The bytes, and scapy's own reading of them, with all lengths and checksums computed."""
    raw = bytes(frame)
    return raw, Ether(raw)


def load(size):
    return Raw(bytes(random.randrange(256) for _ in range(size)))


def ip4(**more):
    return IP(src="10.0.0.1", dst="198.51.100.2", ttl=33, tos=0xB8, id=4660, **more)


def ip6(**more):
    return IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=33, tc=0xB8, fl=0x12345, **more)


def transport_of(seen):
    return next(layer for layer in (UDP, TCP, ICMP, ICMPv6EchoRequest) if layer in seen)


def transports():
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
    for size in (0, 1, 2, 17, 18, 63, 64, 65, 512, 1399):
        yield ip4() / UDP(sport=1024, dport=53) / load(size)
        yield ip4(options=[IPOption_Router_Alert()]) / UDP(sport=1, dport=65535) / load(size)
        yield ip4(flags="DF") / TCP(sport=1024, dport=80, seq=0xFFFFFFF0, ack=7, flags="SAE", window=4321, urgptr=9,
                                    options=options) / load(size)
        yield ip4() / ICMP(type=8, id=4660, seq=7) / load(size)
        yield ip6() / UDP(sport=1024, dport=53) / load(size)
        yield ip6() / TCP(sport=1024, dport=80, flags="FPAUC") / load(size)
        yield ip6() / ICMPv6EchoRequest(id=4660, seq=7, data=bytes(load(size)))
        yield (ip6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) /
               IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0) / IPv6ExtHdrDestOpt() /
               UDP(sport=1024, dport=53) / load(size))


def check_sums():
    for size in list(range(0, 130)) + [1499, 1500, 9000, 9001]:
        data = bytes(random.randrange(256) for _ in range(size))
        same(f"checksum of {size} bytes", ask("checksum", data.hex()), str(checksum(data)))
    for stack in STACKS:
        for packet in transports():
            raw, seen = built(framed(packet, stack))
            what = seen.summary()
            same(f"verify {what}", ask("verify", raw.hex()), "right")
            blank = bytearray(raw)
            if IP in seen:
                start = 14 + 4 * len(stack)
                blank[start + 10:start + 12] = b"\x12\x34"
            upper = transport_of(seen)
            field = len(raw) - len(bytes(seen[upper])) + {UDP: 6, TCP: 16, ICMP: 2, ICMPv6EchoRequest: 2}[upper]
            blank[field:field + 2] = b"\x56\x78"
            same(f"verify wrong {what}", ask("verify", blank.hex()), "wrong")
            same(f"fill {what}", ask("fill", blank.hex()), raw.hex())
    zero, _ = built(framed(ip4() / UDP(chksum=0) / b"x"))
    same("UDP without a checksum", ask("verify", zero.hex()), "absent")
    for version in (ip4, ip6):
        # A payload that makes the sum 0xFFFF and its complement 0.
        _, seen = built(framed(version() / UDP(sport=1, dport=2) / b"\0\0"))
        raw, seen = built(framed(version() / UDP(sport=1, dport=2) / seen[UDP].chksum.to_bytes(2, "big")))
        same("UDP zero rule, as scapy has it", seen[UDP].chksum, 0xFFFF)
        same("UDP zero rule", ask("fill", raw.hex()), raw.hex())


def tcp_options(options):
    kinds = {"MSS": (2, 2), "WScale": (3, 1), "SAckOK": (4, 0)}
    text = ""
    for name, value in options:
        if name == "Timestamp":
            text += f"8:{value[0]:08x}{value[1]:08x},"
        elif name in kinds:
            kind, width = kinds[name]
            text += f"{kind}:" + (int(value).to_bytes(width, "big").hex() if width else "") + ","
    return text


def expected_fields(seen, stack):
    """What our views should say, from scapy's own dissection."""
    want = {"eth.dst": seen.dst, "eth.src": seen.src,
            "tags": "".join(f"{tag[0]:x}/{tag[1]}/{tag[2]}/{tag[3]}," for tag in stack)}
    if ARP in seen:
        arp = seen[ARP]
        want.update(op=arp.op, hwsrc=arp.hwsrc, psrc=arp.psrc, hwdst=arp.hwdst, pdst=arp.pdst)
        return strings(want)
    if IP in seen:
        ip = seen[IP]
        want.update({"ip.src": ip.src, "ip.dst": ip.dst, "ip.tos": ip.tos, "ip.len": ip.len, "ip.id": ip.id,
                     "ip.frag": int(ip.flags) << 13 | ip.frag, "ip.ttl": ip.ttl, "ip.proto": ip.proto,
                     "ip.chksum": ip.chksum,
                     "ip.options": "".join(f"{bytes(o)[0]}:{bytes(o)[2:].hex()}," for o in ip.options)})
    else:
        ip = seen[IPv6]
        want.update({"ip.src": ip.src, "ip.dst": ip.dst, "ip.tc": ip.tc, "ip.fl": ip.fl, "ip.plen": ip.plen,
                     "ip.nh": ip.nh, "ip.hlim": ip.hlim})
    upper = seen[transport_of(seen)]
    if UDP in seen:
        want.update(sport=upper.sport, dport=upper.dport, len=upper.len, chksum=upper.chksum,
                    load=bytes(upper.payload).hex())
    elif TCP in seen:
        want.update(sport=upper.sport, dport=upper.dport, seq=upper.seq, ack=upper.ack, flags=int(upper.flags),
                    window=upper.window, chksum=upper.chksum, urgptr=upper.urgptr, options=tcp_options(upper.options),
                    load=bytes(upper.payload).hex())
    else:
        four = ICMP in seen
        want.update(type=upper.type, code=upper.code, chksum=upper.chksum if four else upper.cksum, id=upper.id,
                    seq=upper.seq, load=bytes(upper.payload if four else upper.data).hex())
    return strings(want)


def check_fields():
    arp = ARP(op=2, hwsrc=MACS["src"], psrc="10.0.0.1", hwdst=MACS["dst"], pdst="10.0.0.2")
    for stack in STACKS:
        for packet in [*transports(), arp]:
            raw, seen = built(framed(packet, stack))
            same(f"fields of {seen.summary()}", fields(ask("fields", raw.hex())), expected_fields(seen, stack))


def check_flows():
    for stack in STACKS:
        for packet in transports():
            raw, seen = built(framed(packet, stack))
            ip = seen[IP] if IP in seen else seen[IPv6]
            upper = transport_of(seen)
            query = upper in (ICMP, ICMPv6EchoRequest)
            offset = len(raw) - len(bytes(seen[upper]))
            want = dict(kind="icmp_query" if query else "ports", tags=len(stack), network=14 + 4 * len(stack),
                        tci=tci(stack[0]) if stack else 0, type=0x0800 if IP in seen else 0x86DD, transport=offset,
                        payload=offset + (seen[TCP].dataofs * 4 if upper is TCP else 8), end=len(raw),
                        fragment_offset=0, more=0, id=0, src=ip.src, dst=ip.dst,
                        protocol={UDP: 17, TCP: 6, ICMP: 1, ICMPv6EchoRequest: 58}[upper],
                        sport=seen[upper].id if query else seen[upper].sport,
                        dport=seen[upper].id if query else seen[upper].dport)
            same(f"flow of {seen.summary()}", fields(ask("flow", raw.hex())), strings(want))
    for packet, kind in [(ip4() / ICMP(type=3, code=4) / ip4() / UDP(), "icmp_error"),
                         (ip4() / ICMP(type=11) / ip4() / TCP(), "icmp_error"),
                         (ip6() / ICMPv6PacketTooBig() / ip6() / UDP(), "icmp_error"),
                         (ip6() / ICMPv6DestUnreach() / ip6() / UDP(), "icmp_error"),
                         (ip6() / ICMPv6EchoReply(id=3), "icmp_query"),
                         (ip6() / ICMPv6ND_NS(tgt="2001:db8::2"), "icmp_other"),
                         (ip4(proto=47) / load(20), "protocol"), (ip6(nh=59), "protocol")]:
        raw, seen = built(framed(packet))
        same(f"class of {seen.summary()}", fields(ask("flow", raw.hex()))["kind"], kind)
        if kind.startswith("icmp"):
            same(f"verify {seen.summary()}", ask("verify", raw.hex()), "right")


def check_fragments():
    for index, part in enumerate(fragment(ip4() / UDP(sport=1024, dport=53) / load(3000), 1000)):
        raw, seen = built(framed(part))
        flow = fields(ask("flow", raw.hex()))
        same("IPv4 fragment", (flow["kind"], int(flow["fragment_offset"]), int(flow["more"]), int(flow["id"])),
             ("fragment" if index else "ports", seen[IP].frag * 8, int(seen[IP].flags.MF), 4660))
        same("IPv4 fragment is not verified", ask("verify", raw.hex()), "unknown")
    whole = ip6() / IPv6ExtHdrFragment(id=0x12345678) / UDP(sport=1024, dport=53) / load(3000)
    for index, part in enumerate(fragment6(whole, 1280)):
        raw, seen = built(framed(part))
        flow = fields(ask("flow", raw.hex()))
        header = seen[IPv6ExtHdrFragment]
        same("IPv6 fragment", (flow["kind"], int(flow["fragment_offset"]), int(flow["more"]), int(flow["id"])),
             ("fragment" if index else "ports", header.offset * 8, header.m, 0x12345678))
        same("IPv6 fragment is not verified", ask("verify", raw.hex()), "unknown")


def check_vlan():
    plain, _ = built(framed(ip4() / UDP() / load(40)))
    for tpid in (0x8100, 0x88A8):
        tagged, _ = built(framed(Ether(plain)[IP], [(tpid, 100, 5, 0)]))
        same("insert", ask("insert", f"{tpid:x}", f"{tci((tpid, 100, 5, 0)):x}", plain.hex()), tagged.hex())
        same("strip", ask("strip", tagged.hex()), plain.hex())
    for stack in STACKS[2:]:
        tagged, _ = built(framed(Ether(plain)[IP], stack))
        inner, _ = built(framed(Ether(plain)[IP], stack[1:]))
        same("strip the outer tag", ask("strip", tagged.hex()), inner.hex())
    same("nothing to strip", ask("strip", plain.hex()), "none")


def check_text():
    """What we print is what tcpdump does, but for extension headers, which we leave out, and fragments, which it does."""
    require(shutil.which("tcpdump"), "needs tcpdump")
    frames = []
    for stack in STACKS:
        for packet in transports():
            for layer in (UDP, TCP):  # ports of which tcpdump knows no protocol
                if layer in packet:
                    packet[layer].sport, packet[layer].dport = 40000, 40001
            if IPv6ExtHdrHopByHop not in packet:
                frames.append(built(framed(packet, stack))[0])
        for operation in (1, 2):
            arp = ARP(op=operation, hwsrc=MACS["src"], psrc="10.0.0.1", pdst="10.0.0.2")
            frames.append(built(framed(arp, stack))[0])
    frames += [built(framed(part))[0] for part in fragment(ip4() / UDP(sport=40000, dport=40001) / load(3000), 1000)]
    quoted = ip4() / UDP(sport=40000, dport=40001)
    for error in (ICMP(type=3, code=0), ICMP(type=3, code=1), ICMP(type=3, code=2), ICMP(type=3, code=3),
                  ICMP(type=3, code=4, nexthopmtu=1400), ICMP(type=11), ICMP(type=11, code=1)):
        frames.append(built(framed(ip4() / error / quoted))[0])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text.pcap")
        wrpcap(path, [Ether(frame) for frame in frames])
        theirs = subprocess.run(["tcpdump", "-ennSt", "-r", path], capture_output=True, text=True, check=True).stdout
    for frame, text in zip(frames, theirs.splitlines(), strict=True):
        same("text, as tcpdump has it", ask("text", frame.hex()).split(" (frag")[0], text)


def check_emitters():
    """What our emitters build, scapy must read as meant, and build again byte by byte from its own fields, with all
    lengths and checksums left to it."""
    computed = {IP: ("ihl", "len", "chksum"), IPv6: ("plen",), UDP: ("len", "chksum"), TCP: ("dataofs", "chksum"),
                ICMP: ("chksum",), ICMPv6EchoRequest: ("cksum",)}
    layers = {"udp4": (IP, UDP), "tcp4": (IP, TCP), "icmp4": (IP, ICMP), "udp6": (IPv6, UDP), "tcp6": (IPv6, TCP),
              "icmp6": (IPv6, ICMPv6EchoRequest), "arp": (ARP,)}
    for stack in STACKS:
        tags = " ".join(f"{tag[0]:x} {tci(tag):x}" for tag in stack)
        for what, want in layers.items():
            for size in (0, 1, 18, 64, 1400):
                text = judged(ask("emit", what, size, tags))
                seen = Ether(bytes.fromhex(text))
                same(f"layers of {what}", [layer.__name__ for layer in want if layer not in seen], [])
                same(f"fields of {what}", fields(ask("fields", text)), expected_fields(seen, stack))
                for layer, names in computed.items():
                    if layer in seen:
                        for name in names:
                            seen[layer].delfieldval(name)
                same(f"emit {what} {size} {tags}", text, bytes(seen).hex())


def check_ndp():
    mac = "02:00:00:00:00:0a"
    link = dict(src="fe80::1", dst="fe80::2", hlim=255)
    source, target = ICMPv6NDOptSrcLLAddr(lladdr=mac), ICMPv6NDOptDstLLAddr(lladdr=mac)
    prefix = ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64, L=1, A=0, validlifetime=7, preferredlifetime=6)
    for message, want in [
            (ICMPv6ND_NS(tgt="fe80::3"), "tgt=fe80::3"),
            (ICMPv6ND_NS(tgt="fe80::3") / source, f"tgt=fe80::3 lladdr={mac}"),
            (ICMPv6ND_NA(tgt="fe80::3", R=1, S=0, O=1) / target, f"tgt=fe80::3 R=1 S=0 O=1 lladdr={mac}"),
            (ICMPv6ND_NA(tgt="fe80::3", R=0, S=1, O=0), "tgt=fe80::3 R=0 S=1 O=0"),
            (ICMPv6ND_RA(chlim=64, M=1, O=0, routerlifetime=1800, reachabletime=5, retranstimer=9) / source /
             ICMPv6NDOptMTU(mtu=1400) / prefix,
             "chlim=64 M=1 O=0 routerlifetime=1800 reachabletime=5 retranstimer=9 "
             f"lladdr={mac} mtu=1400 prefix=2001:db8:1::/64 L=1 A=0 validlifetime=7 preferredlifetime=6"),
            (ICMPv6ND_Redirect(tgt="fe80::9", dst="2001:db8::9") / target, f"tgt=fe80::9 dst=2001:db8::9 lladdr={mac}")]:
        raw, seen = built(framed(IPv6(**link) / message))
        same(f"neighbor discovery {seen.summary()}", ask("ndp", raw.hex()), f"fault=0 {want}")
        far, _ = built(framed(IPv6(**dict(link, hlim=254)) / message))
        same(f"from afar {seen.summary()}", ask("ndp", far.hex()), f"fault=2 {want}")
    for option in (None, mac):
        theirs = ICMPv6ND_NS(tgt="fe80::3") / (source if option else Raw(b""))
        same("emit a solicitation", judged(ask("neighbor", "ns", "-", "fe80::3", option or "-")),
             built(framed(IPv6(**link) / theirs))[0].hex())
    for flags in ("-", "R", "S", "O", "RSO"):
        theirs = ICMPv6ND_NA(tgt="fe80::3", **{flag: int(flag in flags) for flag in "RSO"}) / target
        same("emit an advertisement", judged(ask("neighbor", "na", flags, "fe80::3", mac)),
             built(framed(IPv6(**link) / theirs))[0].hex())


NEW4 = dict(src="203.0.113.9", dst="192.168.1.77", sport=40000, dport=65535)
NEW6 = dict(src="2001:db8:9::9", dst="fd00::77", sport=40000, dport=65535)


def renewed(frame, new, reverse=False):
    """The frame with new addresses and ports, and every checksum left to scapy."""
    frame = frame.copy()
    src, dst = ("dst", "src") if reverse else ("src", "dst")
    ip = frame[IP] if IP in frame else frame[IPv6]
    ip.src, ip.dst = new[src], new[dst]
    if IP in frame:
        ip.delfieldval("chksum")
    upper = next((frame[layer] for layer in (UDP, TCP, ICMP, ICMPv6EchoRequest) if layer in frame), None)
    if isinstance(upper, (UDP, TCP)):
        upper.sport, upper.dport = new[src[0] + "port"], new[dst[0] + "port"]
        upper.delfieldval("chksum")
    elif upper is not None:
        upper.id = new["dport" if reverse else "sport"]
        upper.delfieldval("chksum" if IP in frame else "cksum")
    return frame


def rewrite(raw, new):
    return ask("rewrite", new["src"], new["dst"], new["sport"], new["dport"], raw.hex())


def check_rewrites():
    for stack in STACKS:
        for packet in transports():
            raw, seen = built(framed(packet, stack))
            new = NEW4 if IP in seen else NEW6
            same(f"rewrite {seen.summary()}", judged(rewrite(raw, new)), bytes(renewed(seen, new)).hex())

    # Fragments, rewritten one by one, are those of the rewritten datagram.
    for upper in (UDP(sport=1024, dport=53), TCP(sport=1024, dport=53), ICMP(id=7)):
        whole = built(ip4() / upper / load(3000))[0]
        ours = [rewrite(built(framed(part))[0], NEW4) for part in fragment(IP(whole), 1000)]
        theirs = [built(framed(part))[0].hex() for part in fragment(renewed(IP(whole), NEW4), 1000)]
        same(f"rewrite fragments of {upper.summary()}", ours, theirs)
    whole = IPv6(bytes(ip6() / IPv6ExtHdrFragment(id=7) / UDP(sport=1024, dport=53) / load(3000)))
    ours = [rewrite(built(framed(part))[0], NEW6) for part in fragment6(whole, 1280)]
    theirs = [built(framed(part))[0].hex() for part in fragment6(renewed(whole, NEW6), 1280)]
    same("rewrite fragments of IPv6", ours, theirs)

    # Errors: the quoted packet went the other way; where its destination stays, so does the router that complains.
    for packet in transports():
        quoted = (IP if IP in packet else IPv6)(bytes(packet))
        version, layer = (IP, ICMP(type=11)) if IP in packet else (IPv6, ICMPv6TimeExceeded())
        new = dict(NEW4 if version is IP else NEW6)
        for outside in (False, True):
            if outside:
                new["src"] = quoted.dst
            router = "192.0.2.1" if version is IP else "2001:db8:f::1"
            for cut in (8, 20, 64) if version is IP else (64, 1200):
                size = len(quoted) - len(bytes(quoted[transport_of(quoted)])) + cut
                before = version(src=router, dst=quoted.src) / layer / Raw(bytes(quoted)[:size])
                inner = bytes(renewed(quoted, new, reverse=True))[:size]
                after = version(src=router if outside else new["src"], dst=new["dst"]) / layer / Raw(inner)
                same(f"rewrite an error about {quoted.summary()} cut to {size}",
                     rewrite(built(framed(before))[0], new), built(framed(after))[0].hex())


produced = []


def judged(text):
    """Remembers a frame that we made, for tshark."""
    produced.append(text)
    return text


def check_with_tshark():
    """tshark, checking every checksum, finds nothing wrong in what we made."""
    require(shutil.which("tshark"), "needs tshark")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "made.pcap")
        wrpcap(path, [Ether(bytes.fromhex(text)) for text in produced])
        options = [word for name in ("ip", "udp", "tcp") for word in ("-o", f"{name}.check_checksum:TRUE")]
        options += ["--disable-protocol", "dns", "--disable-protocol", "http"]  # our payloads are neither
        bad = "||".join(["_ws.malformed", "_ws.expert.severity>=8388608"] +
                        [f"{name}.checksum.status==0" for name in ("ip", "udp", "tcp", "icmp", "icmpv6")])
        count = subprocess.run(["tshark", "-r", path, "-T", "fields", "-e", "frame.number"], capture_output=True,
                               text=True, check=True).stdout.split()
        found = subprocess.run(["tshark", "-r", path, *options, "-Y", bad], capture_output=True, text=True, check=True)
        same("frames that tshark reads", str(len(count)), str(len(produced)))
        same("frames that tshark complains of", found.stdout, "")
    print(f"tshark judged {len(produced)} frames")


check_rewrites()
check_ndp()
check_sums()
check_fields()
check_flows()
check_fragments()
check_vlan()
check_emitters()
check_text()
check_with_tshark()
dump.stdin.close()
dump.wait()
print(f"{checks} checks, {failures} failures")
sys.exit(1 if failures or dump.returncode else 0)
