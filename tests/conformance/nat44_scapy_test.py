"""scapy on both sides of a Nat44: hosts inside and outside, errors, fragments and clocks, for each of the rules N1 to N20.

With --write, writes docs/nat_conformance.md, which the test otherwise holds against what it has just seen."""
import os
import random
import subprocess
import sys
import warnings

from skip import require

try:
    warnings.simplefilter("ignore")
    from scapy.all import ICMP, IP, TCP, UDP, Ether, IPerror, IPOption_Router_Alert, Raw, TCPerror, UDPerror, defragment, fragment
except ImportError as error:
    require(False, f"needs scapy: {error}")

HOST, OTHER, SERVER, PEER, POOL = "10.0.0.7", "10.0.0.8", "203.0.113.5", "203.0.113.9", "198.51.100.1"
INSIDE_ROUTER, OUTSIDE_ROUTER = "10.0.0.1", "198.51.100.254"
LINK = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
failures = checks = 0
rules = []


def rule(line, source, text):
    """A rule, its source, and the function below as its judge, whose docstring says what is looked at."""
    def add(function):
        rules.append((line, source, text, function))
        return function
    return add


def same(what, got, wanted=True):
    global failures, checks
    checks += 1
    if got != wanted:
        failures += 1
        print(f"{current}: {what}: got {got}, wanted {wanted}")


def right(packet):
    """The packet, whose every checksum must be what scapy would have written."""
    again = IP(bytes(packet))
    for layer in again.layers():
        if not layer.__name__.endswith("error") and "chksum" in again[layer].fields:
            if again.frag == 0 and not again.flags.MF or layer is IP:
                again[layer].chksum = None
    same("checksums", bytes(again), bytes(packet))
    return packet


class Nat:
    def __init__(self, **options):
        program = os.path.join(os.environ["EFIO_BIN_DIR"], "nat44_dialogue")
        self.process = subprocess.Popen([program] + [f"{key}={value}" for key, value in options.items()],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.now = 1_000_000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        same("exit code", self.process.wait(), 0)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        return self.process.stdout.readline().strip()

    def wait(self, seconds):
        self.now += int(seconds * 1000)
        self.ask("tick", self.now)

    def number(self, name):
        return int(self.ask("counter", name))

    def batch(self, side, packets):
        """Packets into a side, as one batch; a verdict and what left, or None, for each."""
        frames = [bytes(LINK / packet).hex() for packet in packets]
        answers = []
        for word in self.ask(side, self.now, *frames).split(" "):
            verdict, _, frame = word.partition("=")
            answers.append((verdict, Ether(bytes.fromhex(frame))[IP] if frame else None))
        return answers

    def send(self, packet):
        """From inside: what left outside (or came back in), or the name of the verdict."""
        verdict, left = self.batch("in", [packet])[0]
        return right(left) if left is not None else verdict

    def receive(self, packet):
        """From outside."""
        verdict, left = self.batch("out", [packet])[0]
        return right(left) if left is not None else verdict

    def own(self, side):
        """Packets that the NAT itself has for a side."""
        return [right(Ether(bytes.fromhex(frame))[IP]) for frame in self.ask("collect", side).split(" ") if frame]


def end(packet):
    return packet.src, packet.sport


KINDS = (UDP, TCP)


def out(kind, src=HOST, sport=5000, dst=SERVER, dport=53, flags="S", payload=b"x" * 9, **fields):
    more = {"flags": flags} if kind is TCP else {}
    return IP(src=src, dst=dst, **fields) / kind(sport=sport, dport=dport, **more) / Raw(payload)


def back(kind, to, src=SERVER, sport=53, flags="SA", **fields):
    return out(kind, src, sport, to[0], to[1], flags, **fields)


def ping(src=HOST, dst=SERVER, id=77, type="echo-request", **fields):
    return IP(src=src, dst=dst, **fields) / ICMP(type=type, id=id, seq=1) / Raw(b"ping" * 5)


def about(packet, src, dst=None, type=3, code=3, quoted=28, **fields):
    return IP(src=src, dst=dst or packet.src) / ICMP(type=type, code=code, **fields) / Raw(bytes(packet)[:quoted])


def inner(error):
    return IPerror(bytes(error[ICMP].payload))


# ---- Mappings ----

@rule("N1", "RFC 4787 REQ-1, RFC 5382 REQ-1", "Endpoint-independent mapping, UDP and TCP")
def mapping():
    """one inside end has one outside end towards other ports and other hosts; other ends have others"""
    for kind in KINDS:
        with Nat() as nat:
            seen = end(nat.send(out(kind)))
            same("address", seen[0], POOL)
            for dst, dport in ((SERVER, 54), (PEER, 53), (PEER, 9999)):
                same("the same", end(nat.send(out(kind, dst=dst, dport=dport))), seen)
            same("another port", end(nat.send(out(kind, sport=5001))) != seen)
            same("another host", end(nat.send(out(kind, src=OTHER))) != seen)
            came = nat.receive(back(kind, seen))
            same("back", (came.dst, came.dport), (HOST, 5000))


@rule("N2", "RFC 4787 REQ-2, RFC 6888 REQ-2", "Paired address pooling")
def pooling():
    """all mappings of an inside address, of any protocol, have one outside address, while hosts are spread over them"""
    with Nat(pool="198.51.100.1-198.51.100.4") as nat:
        used = set()
        for number in range(2, 40):
            src = f"10.0.1.{number}"
            seen = {nat.send(out(kind, src=src, sport=port)).src for kind in KINDS for port in (1, 2)}
            seen.add(nat.send(ping(src=src)).src)
            same("one address", len(seen), 1)
            used |= seen
        same("addresses in use", len(used), 4)


@rule("N3", "RFC 4787 REQ-3, RFC 5382 REQ-7", "No port overloading")
def overloading():
    """no two inside ends share an outside one, not even when ports run out"""
    with Nat(pool="198.51.100.1:2000-2063") as nat:
        for kind in KINDS:
            answers = nat.batch("in", [out(kind, src=f"10.0.2.{n}", dst=f"203.0.113.{n}") for n in range(1, 101)])
            ends = [end(left) for _, left in answers if left is not None]
            same("ends", (len(ends), len(set(ends))), (64, 64))
            same("the others", {verdict for verdict, left in answers if left is None}, {"ports_exhausted"})


# ---- Time, filtering, hairpins ----

@rule("N4", "RFC 4787 REQ-5, REQ-6", "UDP timer of at least 120 s, 300 s by default; refreshed by outbound packets")
def udp_timer():
    """a mapping answers after 299 s, outbound packets refresh it, inbound ones do not"""
    with Nat() as nat:
        seen = end(nat.send(out(UDP)))
        nat.wait(299)
        same("alive", nat.receive(back(UDP, seen)).dst, HOST)
        same("refreshed", end(nat.send(out(UDP))), seen)
        nat.wait(299)
        same("still alive", nat.receive(back(UDP, seen)).dst, HOST)
        nat.wait(3)
        same("inbound does not refresh", nat.receive(back(UDP, seen)), "no_mapping")


@rule("N5", "RFC 4787 REQ-8, RFC 5382 REQ-3", "Filtering as chosen")
def filtering():
    """endpoint-independent, address-dependent, and address and port: who may answer"""
    for kind in KINDS:
        refusal = "not_permitted" if kind is UDP else "syn_held"
        for chosen, other_port, stranger in (("endpoint", HOST, HOST), ("address", HOST, refusal),
                                             ("address-port", refusal, refusal)):
            with Nat(filtering=chosen) as nat:
                seen = end(nat.send(out(kind)))
                for what, wanted, packet in (("asked", HOST, back(kind, seen)),
                                             ("other port", other_port, back(kind, seen, sport=54, flags="S")),
                                             ("stranger", stranger, back(kind, seen, src=PEER, flags="S"))):
                    came = nat.receive(packet)
                    same(f"{chosen} {what}", came if isinstance(came, str) else came.dst, wanted)


@rule("N6", "RFC 4787 REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7", "Hairpinning for UDP, TCP and ICMP errors")
def hairpin():
    """two inside hosts meet at an outside end, each sees the other's outside end, and errors about it find their way"""
    for kind in KINDS:
        with Nat() as nat:
            seen = end(nat.send(out(kind)))
            came = nat.send(out(kind, src=OTHER, sport=6000, dst=seen[0], dport=seen[1]))
            same("to", (came.dst, came.dport), (HOST, 5000))
            same("from outside", came.src, POOL)
            answer = nat.send(out(kind, dst=came.src, dport=came.sport, flags="SA"))
            same("answer", (answer.src, answer.sport, answer.dst, answer.dport), (*seen, OTHER, 6000))
            error = nat.send(about(came, HOST))
            quoted = inner(error)
            same("error", (error.src, error.dst, quoted.src, quoted.dst), (seen[0], OTHER, OTHER, seen[0]))
            same("quoted ports", (quoted.payload.sport, quoted.payload.dport), (6000, seen[1]))


@rule("N7", "RFC 4787 REQ-11, REQ-12, RFC 5382 REQ-10", "Deterministic; ICMP never ends a mapping or session")
def deterministic():
    """every kind of ICMP error leaves mapping and connection as they were; behaviour is the same with the last port"""
    for kind in KINDS:
        with Nat(pool="198.51.100.1:2000-2001") as nat:
            left = nat.send(out(kind))
            for type, code in ((3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (4, 0), (11, 0), (12, 0)):
                nat.receive(about(left, PEER, type=type, code=code))
                nat.send(about(nat.receive(back(kind, end(left))), HOST, type=type, code=code))
                same(f"{type}/{code}", end(nat.send(out(kind))), end(left))
            last = end(nat.send(out(kind, sport=6000)))
            same("also the last port", end(nat.send(out(kind, sport=6000, dst=PEER, dport=1))), last)
            same("strangers come in", nat.receive(back(kind, last, src="203.0.113.77", flags="S")).dst, HOST)


# ---- Sizes ----

@rule("N8", "RFC 4787 REQ-13, RFC 791 3.2", "DF and too big: ICMP 3/4 with the MTU; without DF, fragments")
def too_big():
    """the error names the MTU and quotes the packet; without DF scapy puts the fragments together again, both ways"""
    with Nat(outside_mtu=600, inside_mtu=400) as nat:
        big = out(UDP, flags="DF", payload=b"y" * 1000)
        big.flags = "DF"
        same("dropped", nat.send(big), "too_big")
        error, = nat.own("inside")
        same("error", (error.src, error.dst, error.type, error.code, error.nexthopmtu), (INSIDE_ROUTER, HOST, 3, 4, 600))
        same("quoted", inner(error)[UDPerror].sport, 5000)
        whole = out(UDP, payload=bytes(range(250)) * 4)
        same("without DF", nat.send(whole), "fragmented")
        parts = nat.own("outside")
        same("sizes", max(len(part) for part in parts) <= 600 and len(parts) >= 2)
        together, = defragment(parts)
        together = right(IP(bytes(together)))
        same("whole", bytes(together[UDP].payload), bytes(whole[UDP].payload))
        same("inward", nat.receive(back(UDP, end(together), payload=b"z" * 900)), "fragmented")
        together, = defragment(nat.own("inside"))
        together = right(IP(bytes(together)))
        same("whole inward", (together.dst, bytes(together[UDP].payload)), (HOST, b"z" * 900))


def pass_all(nat, send, side, packets):
    left = []
    for packet in packets:
        came = send(packet)
        left += ([came] if not isinstance(came, str) else []) + nat.own(side)
    return left


@rule("N9", "RFC 4787 REQ-14", "Fragments, in order and out of order, bounded memory")
def fragments():
    """in order, reversed and shuffled, both ways; overlapping ones are dropped; 5,000 that never end do not stop others"""
    random.seed(9)
    for kind in KINDS:
        for how in ("in order", "reversed", "shuffled"):
            with Nat() as nat:
                for send, side, whole, to in ((nat.send, "outside", out(kind, payload=b"f" * 3000, id=7), SERVER),
                                              (nat.receive, "inside", None, HOST)):
                    if whole is None:
                        whole = back(kind, seen, payload=b"g" * 3000, id=8)
                    parts = fragment(IP(bytes(whole)), 800)
                    if how == "reversed":
                        parts.reverse()
                    if how == "shuffled":
                        random.shuffle(parts)
                    left = pass_all(nat, send, side, parts)
                    same(f"{how} count", len(left), len(parts))
                    together, = defragment(left)
                    together = right(IP(bytes(together)))
                    same(how, (together.dst, bytes(together[kind].payload)), (to, bytes(whole[kind].payload)))
                    seen = end(together)
    with Nat() as nat:
        parts = fragment(IP(bytes(out(UDP, payload=b"f" * 1200, id=7))), 400)
        nat.send(parts[0])
        same("twice", nat.send(parts[0]), "fragment_invalid")
        overlap = parts[1].copy()
        overlap.frag -= 1
        overlap.chksum = None
        same("overlap", nat.send(overlap), "fragment_invalid")
        template = bytes(parts[1])
        endless = []
        for number in range(5000):
            one = IP(template)
            one.id, one.chksum = number, None
            endless.append(one)
        for at in range(0, 5000, 100):
            nat.batch("in", endless[at:at + 100])
        same("another host's pass", len(pass_all(nat, nat.send, "outside",
                                                 fragment(IP(bytes(out(UDP, src=OTHER, payload=b"h" * 1200, id=7))), 400))), 4)
        nat.wait(20)
        same("given up", nat.number("fragments_given_up") + 0 >= nat.number("in.kept"))


# ---- TCP ----

def connect(nat, sport=5000):
    seen = end(nat.send(out(TCP, sport=sport, dport=80)))
    nat.receive(back(TCP, seen, sport=80))
    nat.send(out(TCP, sport=sport, dport=80, flags="A"))
    return seen


@rule("N10", "RFC 5382 REQ-2, REQ-4", "TCP: every valid sequence; an unsolicited SYN unanswered for 6 s, then ICMP 3/3")
def tcp_sequences():
    """three-way, simultaneous and half-closed connections; silence, then 3/3; and no answer where the inside asks too"""
    with Nat(filtering="address-port") as nat:
        seen = connect(nat)
        same("half closed", nat.receive(back(TCP, seen, sport=80, flags="FA")).dst, HOST)
        same("inside goes on", end(nat.send(out(TCP, dport=80, flags="PA"))), seen)
        same("acknowledged", nat.receive(back(TCP, seen, sport=80, flags="A")).dst, HOST)
        seen = end(nat.send(out(TCP, sport=6000, dport=81)))
        same("simultaneous", nat.receive(back(TCP, seen, sport=81, flags="S")).dst, HOST)
        same("simultaneous SYN, ACK", end(nat.send(out(TCP, sport=6000, dport=81, flags="SA"))), seen)
        nat.wait(7000)
        same("is a connection", nat.receive(back(TCP, seen, sport=81, flags="A")).dst, HOST)
    with Nat(filtering="address-port") as nat:
        seen = end(nat.send(out(TCP, dst=PEER)))
        stranger = back(TCP, (POOL, 4000), flags="S")
        same("held", nat.receive(stranger), "syn_held")
        same("held too", nat.receive(back(TCP, seen, sport=82, flags="S")), "syn_held")
        nat.wait(5.9)
        same("silence", nat.own("outside"), [])
        same("the inside asks", end(nat.send(out(TCP, dport=82))), seen)
        nat.wait(0.2)
        errors = nat.own("outside")
        same("one answer", len(errors), 1)
        same("3/3", (errors[0].src, errors[0].dst, errors[0].type, errors[0].code), (OUTSIDE_ROUTER, SERVER, 3, 3))
        same("quoted", (inner(errors[0]).dst, inner(errors[0])[TCPerror].dport), (POOL, 4000))


@rule("N11", "RFC 5382 REQ-5, RFC 7857 2.1 and 2.2", "TCP established at least 7440 s, transitory and after RST 240 s")
def tcp_timers():
    """an idle connection answers after 7439 s and ends; an opening, a closed and a reset one after 239 s, and end"""
    def alive(nat, seen, flags="A"):
        return not isinstance(nat.receive(back(TCP, seen, sport=80, flags=flags)), str)
    with Nat() as nat:
        seen = connect(nat)
        nat.wait(7439)
        same("established", alive(nat, seen))
        nat.wait(7460)
        same("ended", alive(nat, seen), False)
        seen = end(nat.send(out(TCP, dport=80)))
        nat.wait(239)
        same("opening", alive(nat, seen, "A"))
        nat.wait(2)
        same("opening ended", alive(nat, seen), False)
        for what, inside, outside in (("reset", None, "R"), ("closed", "FA", "FA")):
            seen = connect(nat)
            if inside:
                nat.send(out(TCP, dport=80, flags=inside))
            nat.receive(back(TCP, seen, sport=80, flags=outside))
            late = "R" if what == "reset" else "A"  # other packets after a RST revive the connection (RFC 6146, 3.5.2.2)
            nat.wait(239)
            same(what, alive(nat, seen, late))
            nat.wait(2)
            same(f"{what} ended", alive(nat, seen, late), False)


# ---- ICMP ----

@rule("N12", "RFC 5508 REQ-1, REQ-2", "ICMP query sessions of at least 60 s")
def queries():
    """identifiers are mapped, replies find the host after 59 s, and none after 62 s"""
    with Nat() as nat:
        left, other = nat.send(ping()), nat.send(ping(src=OTHER))
        same("identifiers", left[ICMP].id != other[ICMP].id)
        reply = ping(SERVER, POOL, left[ICMP].id, "echo-reply")
        for wait, wanted in ((59, HOST), (3, "no_mapping")):
            nat.wait(wait)
            came = nat.receive(reply)
            same(f"after {wait} s more", came if isinstance(came, str) else (came.dst, came[ICMP].id),
                 wanted if wanted == "no_mapping" else (HOST, 77))


@rule("N13", "RFC 5508 REQ-3 to REQ-6", "ICMP errors: checked, both headers translated; they neither refresh nor delete")
def errors():
    """about UDP, TCP and pings, from outside and from inside; bad checksums and lies are dropped"""
    for packet, layer in ((out(UDP), UDPerror), (out(TCP), TCPerror), (ping(), None)):
        with Nat() as nat:
            left = nat.send(packet)
            error = about(left, PEER, type=11, code=0)
            came = nat.receive(error)
            quoted = inner(came)
            same("outer", (came.src, came.dst, came.type), (PEER, HOST, 11))
            same("embedded", (quoted.src, quoted.dst), (HOST, SERVER))
            same("embedded header", bytes(quoted)[:20], bytes(IP(bytes(IP(bytes(quoted)[:20]).copy())))[:20])
            rest = bytes(quoted)[20:28]
            same("embedded transport", rest[:4] if layer else rest[4:6], bytes(packet.payload)[:4] if layer else b"\0\x4d")
            bad = IP(bytes(error))
            bad[ICMP].chksum ^= 1
            same("bad ICMP checksum", nat.receive(bad), "icmp_checksum")
            same("cut", nat.receive(about(left, PEER, type=11, quoted=20)), "icmp_malformed")
            lie = IP(bytes(left))
            lie.src, lie.chksum = "198.51.100.77", None
            same("about another's", isinstance(nat.receive(about(lie, PEER, dst=POOL, type=11)), str))
            lie = bytearray(bytes(left))
            lie[12] ^= 1
            same("bad embedded checksum", nat.receive(IP(src=PEER, dst=POOL) / ICMP(type=11) / Raw(bytes(lie)[:28])),
                 "icmp_malformed")
            nat.wait(59 if not layer else 200)
            same("still there", nat.receive(error).dst, HOST)
            nat.wait(2 if not layer else 101)
            same("not refreshed", nat.receive(error), "icmp_unmatched")
    with Nat() as nat:
        seen = end(nat.send(out(UDP)))
        came = nat.receive(back(UDP, seen))
        error = nat.send(about(came, HOST))
        same("from inside", (error.src, inner(error).dst, inner(error)[UDPerror].dport), (POOL, POOL, seen[1]))


# ---- Limits, pools, ports ----

@rule("N14", "RFC 5508 REQ-8", "Out of ports or sessions: ICMP 3/13; nothing existing is harmed")
def exhaustion():
    """the newcomer is told, and all who were there go on with their ends"""
    for options, verdict in ((dict(pool="198.51.100.1:2000-2007"), "ports_exhausted"), (dict(sessions=8), "sessions_full")):
        for kind in KINDS:
            with Nat(**options) as nat:
                seen = [end(nat.send(out(kind, sport=port))) for port in range(8)]
                same("newcomer", nat.send(out(kind, sport=9)), verdict)
                error, = nat.own("inside")
                same("3/13", (error.src, error.dst, error.type, error.code), (INSIDE_ROUTER, HOST, 3, 13))
                same("counted", nat.number(f"in.{verdict}"), 1)
                same("unharmed", [end(nat.send(out(kind, sport=port))) for port in range(8)], seen)


@rule("N15", "RFC 6888 REQ-3 to REQ-6", "Non-contiguous pools; limits per subscriber; bypass by destination")
def pools():
    """three ranges are all used; a host has its sessions and ports and others theirs; bypassed packets stay as they are"""
    ranges = "198.51.100.1-198.51.100.2,198.51.100.9,192.0.2.32/31"
    with Nat(pool=ranges, bypass="203.0.113.128/25", mappings_each=2, sessions_each=3) as nat:
        used = {nat.send(out(UDP, src=f"10.0.{n // 200}.{n % 200 + 1}")).src for n in range(300)}
        same("all", used, {"198.51.100.1", "198.51.100.2", "198.51.100.9", "192.0.2.32", "192.0.2.33"})
        nat.send(out(UDP, sport=5001))
        same("ports", nat.send(out(UDP, sport=5002)), "subscriber_limit")
        nat.send(out(UDP, dst=PEER))
        same("sessions", nat.send(out(UDP, dst="203.0.113.11")), "subscriber_limit")
        same("others", nat.send(out(UDP, src=OTHER, sport=5001)).dst, SERVER)
        left = nat.send(out(UDP, sport=5009, dst="203.0.113.200"))
        same("bypassed", (left.src, left.sport, left.ttl), (HOST, 5009, 63))
        same("and back", nat.receive(out(UDP, src="203.0.113.200", dst=HOST, dport=5009)).dst, HOST)


@rule("N16", "RFC 6888 REQ-8", "Port hold-down of 120 s")
def hold_down():
    """the only port is not lent again in the 119 s after its mapping has ended, and is after 160 s"""
    with Nat(pool="198.51.100.1:2000-2000") as nat:
        nat.send(out(UDP))
        nat.wait(302)
        same("ended", nat.number("mappings"), 0)
        for wait in (0, 60, 58):
            nat.wait(wait)
            same("rests", nat.send(out(UDP, src=OTHER)), "ports_exhausted")
        nat.wait(42)
        same("lent again", end(nat.send(out(UDP, src=OTHER))), (POOL, 2000))


@rule("N17", "RFC 6888 REQ-15, RFC 6056 3.3.1", "Ports hard to guess")
def guessing():
    """400 ports in a row: spread over the whole range, steps between them all different, another NAT's are others"""
    lists = []
    for _ in range(2):
        with Nat() as nat:
            lists.append([end(left)[1] for _, left in nat.batch("in", [out(UDP, sport=port) for port in range(1, 401)])])
    ports = lists[0]
    eighths = [sum(1 for port in ports if 1024 + 8064 * n <= port < 1024 + 8064 * (n + 1)) for n in range(8)]
    same("spread", min(eighths) > 20)
    steps = [after - before for before, after in zip(ports, ports[1:])]
    same("steps", len(set(steps)) > 380)
    same("another NAT", len(set(zip(*lists)) & {(port, port) for port in ports}) < 5)


@rule("N18", "RFC 6888 REQ-12, REQ-14", "Logs without destinations; with blocks a line a block")
def logs():
    """who had which port, mapped and unmapped, and no word of the server; 64 mappings of a block make two lines"""
    with Nat() as nat:
        seen = end(nat.send(out(UDP)))
        nat.send(out(UDP, dst=PEER))
        same("mapped", nat.ask("log"), f"mapped,17,{HOST},5000,{POOL},{seen[1]},{seen[1]}")
        nat.wait(302)
        same("unmapped", nat.ask("log"), f"unmapped,17,{HOST},5000,{POOL},{seen[1]},{seen[1]}")
    with Nat(blocks=64) as nat:
        ports = [end(left)[1] for _, left in nat.batch("in", [out(UDP, sport=port) for port in range(1, 65)])]
        first = min(ports)
        same("opened", nat.ask("log"), f"block_opened,0,{HOST},0,{POOL},{first},{first + 63}")
        nat.wait(302)
        same("closed", nat.ask("log"), f"block_closed,0,{HOST},0,{POOL},{first},{first + 63}")


@rule("N19", "RFC 4787 REQ-4", "Parity preserved where asked")
def parity():
    """even ports leave from even ones, odd from odd"""
    with Nat(parity="on") as nat:
        answers = nat.batch("in", [out(UDP, sport=port) for port in range(1, 201)])
        same("parity", [left.sport % 2 for _, left in answers], [port % 2 for port in range(1, 201)])


@rule("N20", "RFC 6864 4.1 and 5.3", "IP identification")
def identification():
    """hosts with the same identifications do not meet outside, whole or in fragments; atomic packets stay as they are"""
    with Nat() as nat:
        ids = [left.id for number in range(2, 60) for _, left in nat.batch("in", [out(UDP, src=f"10.0.3.{number}", id=77)])]
        same("all different", len(set(ids)), len(ids))
        parts = [fragment(IP(bytes(out(UDP, src=src, payload=src.encode() * 100, id=9))), 400) for src in (HOST, OTHER)]
        left = [nat.send(part) for pair in zip(*parts) for part in pair]
        together = defragment(left)
        same("apart", sorted(bytes(IP(bytes(one))[UDP].payload)[:8] for one in together), [HOST.encode(), OTHER.encode()])
        same("atomic", nat.send(IP(src=HOST, dst=SERVER, flags="DF", id=5) / UDP(sport=1, dport=2)).id, 5)


# ---- Beyond the list ----

@rule("–", "RFC 1812 5.3.1", "Time to live, ICMP 11: traceroute works through it")
def traceroute():
    """the NAT is a hop with an address, and errors of the hops behind it reach the host"""
    for packet in (out(UDP, ttl=1), out(TCP, ttl=1), ping(ttl=1)):
        with Nat() as nat:
            same("first hop", nat.send(packet), "ttl_exceeded")
            error, = nat.own("inside")
            same("from us", (error.src, error.dst, error.type, error.code), (INSIDE_ROUTER, HOST, 11, 0))
            packet.ttl = 2
            left = nat.send(packet)
            same("counted", left.ttl, 1)
            same("second hop", nat.receive(about(left, PEER, type=11, code=0)).dst, HOST)


@rule("–", "RFC 791 3.1", "IP options stay")
def options():
    """a router alert goes through, both ways, checksums and all"""
    with Nat() as nat:
        left = nat.send(out(UDP, options=[IPOption_Router_Alert()]))
        same("outward", left.options[0].option, 20)
        same("inward", nat.receive(back(UDP, end(left), options=[IPOption_Router_Alert()])).options[0].option, 20)


@rule("–", "static", "Forwards of ports, pairs of addresses")
def static():
    """anybody reaches a forwarded port, and every port of a pair, from its outside end; the answers leave from there"""
    with Nat(filtering="address-port", forward=f"tcp,{POOL},8080,{HOST},80", pair=f"198.51.100.77,{OTHER}") as nat:
        came = nat.receive(out(TCP, src=PEER, sport=999, dst=POOL, dport=8080))
        same("forward", (came.dst, came.dport), (HOST, 80))
        same("answer", end(nat.send(out(TCP, sport=80, dst=PEER, dport=999, flags="SA"))), (POOL, 8080))
        same("pair outward", end(nat.send(out(UDP, src=OTHER))), ("198.51.100.77", 5000))
        came = nat.receive(out(TCP, src=PEER, sport=999, dst="198.51.100.77", dport=22))
        same("pair inward", (came.dst, came.dport), (OTHER, 22))


@rule("–", "RFC 7422", "Deterministic ports")
def fixed():
    """an inside address has the block that arithmetic gives it, and no line is logged"""
    with Nat(pool="198.51.100.200", deterministic="10.1.0.0/24,198.51.100.8/29") as nat:
        for number in (0, 1, 33, 255):
            seen = end(nat.send(out(UDP, src=f"10.1.0.{number}")))
            same("address", seen[0], f"198.51.100.{8 + number // 32}")
            first = 1024 + number % 32 * 2016
            same("block", first <= seen[1] < first + 2016)
        same("nothing logged", nat.ask("log"), "")


for line, _, text, function in rules:
    current = f"{line} {function.__name__}"
    function()
print(f"{checks} checks, {failures} failures")

page = """# NAT44 conformance

Generated by `tests/conformance/nat44_scapy_test.py --write` from its rules, and held against them whenever it runs: each line
is a rule and what scapy, as the hosts on both sides, looks at. [nat.md](nat.md) has the unit tests.

| | rule | source | what is looked at | test |
|---|---|---|---|---|
"""
for line, source, text, function in rules:
    page += f"| {line} | {text} | {source} | {function.__doc__} | `{function.__name__}` |\n"
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "nat_conformance.md")
if "--write" in sys.argv:
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)
elif not os.path.exists(path) or open(path, encoding="utf-8").read() != page:
    print("docs/nat_conformance.md is not up to date: run tests/conformance/nat44_scapy_test.py --write")
    failures += 1
sys.exit(1 if failures else 0)
