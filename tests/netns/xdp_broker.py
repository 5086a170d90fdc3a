"""efio-broker: programs of an unprivileged user receive and send over xdp: with what its file allows, and nothing else."""
import json
import os
import shutil
import signal
import socket as sockets
import subprocess
import tempfile
import threading
import time

from namespaces import veth_pair, wait_until
from skip import require_program, require_root

require_root()
require_program("setpriv")

import _receiver
from _receiver import Receiver, Refused

NOBODY, OTHER = 65534, 65533
bin_dir = os.environ["EFIO_BIN_DIR"]
work = tempfile.TemporaryDirectory(prefix="efio_broker_")
os.chmod(work.name, 0o755)
socket, file = os.path.join(work.name, "socket"), os.path.join(work.name, "broker.toml")
for name in ("io_gen", "xdp_take"):  # the build may lie where nobody may look
    shutil.copy(os.path.join(bin_dir, name), work.name)
io_gen, xdp_take = (os.path.join(work.name, name) for name in ("io_gen", "xdp_take"))


def as_user(user):
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")


def allow(*entries):
    with open(file, "w") as out:
        for entry in entries:
            out.write("[[allow]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items()))


def start_broker(namespace):
    """With no more capabilities than packaging/efio-broker.service gives it."""
    bounds = "--bounding-set=-all,+net_raw,+net_admin,+bpf,+ipc_lock"
    broker = namespace.start("setpriv", bounds, "--no-new-privs", os.path.join(bin_dir, "efio-broker"), "--file", file, "--socket", socket)
    assert "listens at" in broker.stderr.readline()
    return broker


def refused(namespace, options="", user=NOBODY):
    try:
        Receiver(namespace, f"xdp:{namespace.device}?broker={socket}{options}", as_user(user), xdp_take).close()
    except Refused as error:
        return str(error)
    raise AssertionError(f"{options or 'the port'} was opened")


def receiver(namespace, options="", user=NOBODY):
    return Receiver(namespace, f"xdp:{namespace.device}?broker={socket}{options}", as_user(user), xdp_take)


def send(namespace, count, *options):
    sent = namespace.run(io_gen, "tx", f"packet:{namespace.device}", "--count", count, "--dst-mac", "02:00:00:00:00:09", *options)
    assert sent.returncode == 0, sent.stderr


def link(namespace):
    return namespace.run("ip", "-d", "link", "show", namespace.device).stdout


def attached(namespace):
    return " xdp" in link(namespace)


def nobody_receives_and_sends(a, b):
    allow({"user": NOBODY, "device": a.device})
    broker = start_broker(a)
    without = a.run(*as_user(NOBODY), io_gen, "rx", f"xdp:{a.device}", "--count", 1)
    assert without.returncode == 3 and "cap_bpf" in without.stderr, without
    port = receiver(a)
    assert "by a broker" in port.mode, port.mode
    assert "promiscuity 1" in link(a)
    send(b, 300)
    assert len(port.frames(300)) == 300
    assert port.take("udp:7") == "ok"
    send(b, 50)
    send(b, 20, "--dport", "7")
    taken = port.frames(21, 1)
    assert len(taken) == 20 and all(frame[36:38] == b"\0\7" for frame in taken), len(taken)
    assert "no condition" in port.take("udq:7")
    port.close()
    wait_until(lambda: not attached(a) and "promiscuity 0" in link(a), "the broker undoes what it did for a program")

    before = b.count("rx")
    sent = a.run(*as_user(NOBODY), io_gen, "tx", f"xdp:{a.device}?broker={socket}", "--count", 500, "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["ports"][0]["tx"]["packets"] == 500
    wait_until(lambda: b.count("rx") - before == 500, f"{b.count('rx') - before} of 500 frames came")
    broker.terminate()
    broker.communicate(timeout=30)
    assert broker.returncode == 0 and not os.path.exists(socket)


def the_file_decides(a, b):
    allow({"user": NOBODY, "device": "other0"})
    broker = start_broker(a)
    assert f"user {NOBODY} may not open {a.device}" in refused(a)
    assert "does not answer" in refused(a, user=OTHER)  # no entry at all: not listened to
    # Who only sends changes nothing on the device.
    allow({"user": NOBODY, "device": a.device, "direction": "tx"})
    assert f"may not open {a.device} for rx" in refused(a)
    # A change is in force for the next who comes.
    allow({"user": NOBODY, "device": a.device, "queues": [1], "direction": "rx", "take": "udp:4000-5000,arp"})
    assert f"may not open queue 0 of {a.device} for rx" in refused(a)
    assert f"may not open queue 0 of {a.device} for rx" in refused(a, "&queue=0")
    assert "may take=udp:4000-5000,arp" in refused(a, "&queue=1&take=udp:53")
    sent = a.run(*as_user(NOBODY), io_gen, "tx", f"xdp:{a.device}?broker={socket}&queue=1", "--count", 1)
    assert sent.returncode == 3 and f"may not open queue 1 of {a.device} for tx" in sent.stderr, sent
    port = receiver(a, "&queue=1")
    assert "may take=" in port.take("tcp")
    assert port.take("none") == "ok" and port.take("all") == "ok"  # all of what is allowed
    # Another program has another queue, and not this one.
    allow({"group": OTHER, "device": a.device}, {"user": NOBODY, "device": a.device, "memory": "1Mi"})
    assert "is in use by an AF_XDP socket" in refused(a, "&queue=1", OTHER)
    second = receiver(a, "&queue=0", OTHER)
    error = refused(a, "&queue=0&frames=4096")
    assert f"user {NOBODY} may have {1 << 20} bytes of frames locked" in error, error
    port.close()
    assert attached(a)
    second.close()
    wait_until(lambda: not attached(a), "the last who goes takes the program along")
    allow({"user": NOBODY})
    assert "does not answer" in refused(a)
    assert "line 1: an entry names a device" in broker_says(broker)
    broker.terminate()
    broker.communicate(timeout=30)


def broker_says(broker):
    """The last complaint about its file."""
    for line in broker.stderr:
        if "read " in line:
            return line
    return ""


def whoever_is_killed_leaves_nothing(a, b):
    allow({"user": NOBODY, "device": a.device})
    broker = start_broker(a)
    port = receiver(a, "&take=udp:9")
    port.process.kill()
    port.process.wait()
    wait_until(lambda: not attached(a) and "promiscuity 0" in link(a), "a killed program leaves nothing")
    port = receiver(a)  # and its queue, and its rules, are free
    send(b, 10, "--dport", "8")
    assert len(port.frames(10)) == 10
    broker.kill()
    broker.wait()
    wait_until(lambda: not attached(a), "a killed broker leaves nothing")
    try:
        port.frames(1, 2)
        raise AssertionError("the port does not notice")
    except Refused as error:
        assert "the broker that opened it has ended" in str(error), error
    assert "does not answer" in port.take("udp")
    broker = start_broker(a)  # where the old one's socket still lies
    port.close()
    receiver(a).close()
    broker.terminate()
    broker.communicate(timeout=30)


def nonsense_is_refused(a, b):
    allow({"user": 0, "device": a.device})
    broker = start_broker(a)
    for message in (b"", b"x", os.urandom(4000), bytes(10000), os.urandom(60000)):
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as connection:
            connection.connect(socket)
            connection.settimeout(10)
            connection.send(message)
            assert connection.recv(65536) == b"", "an answer to nonsense"
    # Requests of the right size, first about nothing, then about the device: none but the harmless ones can succeed.
    index = int(a.run("cat", f"/sys/class/net/{a.device}/ifindex").stdout)
    number = lambda value: value.to_bytes(4, "little")
    for i in range(300):
        about = number(2) + number(i % 8) + a.device.encode().ljust(16, b"\0") + number(index) if i >= 100 else number(1)
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as connection:
            connection.connect(socket)
            connection.settimeout(10)
            connection.send(about + os.urandom(4184 - len(about)))
            done = connection.recv(65536)[:4]
            harmless = i >= 100 and i % 8 in (4, 6)  # clear_socket, promiscuous
            assert done == number(1 if harmless else 0), (i, done)
    # More descriptors than one: refused, and none stays behind.
    descriptors = lambda: len(os.listdir(f"/proc/{broker.pid}/fd"))
    before = descriptors()
    for _ in range(20):
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as connection:
            connection.connect(socket)
            connection.settimeout(10)
            sockets.send_fds(connection, [number(2) + number(6) + bytes(4176)], [0, 1])
            assert connection.recv(65536) == b"", "an answer to two descriptors"
    wait_until(lambda: descriptors() <= before, "no descriptor stays behind")
    assert broker.poll() is None
    wait_until(lambda: not attached(a) and "promiscuity 0" in link(a), "nonsense leaves nothing")
    broker.terminate()
    broker.communicate(timeout=30)


def late_answers_are_not_taken_for_others(a, b):
    """A broker that answers an earlier request first, as one does that was stopped while a program gave up on it; and a
    program that is stopped meanwhile, after which the kernel does not resume its system call."""
    path = socket + ".late"

    def answer(request, why="", done=0):
        device_error, native = 3, 1
        numbers = b"".join(n.to_bytes(4, "little") for n in (done, request[17], device_error, 0, native, 0, 0))
        return numbers + why.encode().ljust(512, b"\0") + bytes(512)

    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)

        def serve():
            connection, _ = listener.accept()
            with connection:
                hear = lambda: memoryview(connection.recv(65536)).cast("I")
                attach = hear()
                connection.send(answer(attach, done=1))
                bind = hear()
                program = int.from_bytes(connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12)[:4], "little")
                for number in (signal.SIGSTOP, signal.SIGCONT):
                    time.sleep(0.1)  # it waits for the answer by then
                    os.kill(program, number)
                connection.send(answer(attach, "of an earlier one"))
                connection.send(answer(bind, "of this one"))
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            Receiver(a, f"xdp:{a.device}?broker={path}", (), xdp_take).close()
            raise AssertionError("it opened")
        except Refused as error:
            assert "of this one" in str(error), error
        thread.join()


def its_file_is_checked():
    def check(text, mode=0o644):
        with open(file, "w") as out:
            out.write(text)
        os.chmod(file, mode)
        done = subprocess.run([os.path.join(bin_dir, "efio-broker"), "--check", "--file", file], capture_output=True, text=True)
        os.chmod(file, 0o644)
        return done.returncode, done.stderr

    good = '[[allow]]\nuser = "root"\ndevice = "eth0"\n'
    assert check(good) == (0, "")
    assert check("") == (0, "")
    for text, said in (("[[allow]\n", "line 1"), ("[~allow[[", "line 1"), ("allow = 3\n", "[[allow]]"), ("[[deny]]\nuser = 0\n", "[[allow]]"),
                       (good + "queues = [-1]\n", "line 4: queues"), (good + 'direction = "up"\n', "direction is"),
                       (good + 'take = "udq"\n', "no condition 'udq'"), (good + 'memory = "much"\n', "memory is"),
                       (good + "speed = 3\n", "there is no key speed"), (good + 'queues = "0"\n', "queues is"),
                       ('[[allow]]\nuser = "nobody-of-this-name"\n', "is no user"), ("[[allow]]\ndevice = 'eth0'\n", "an entry names")):
        code, error = check(text)
        assert code == 3 and said in error and error.count("\n") == 1, (text, code, error)
    code, error = check(good, 0o666)
    assert code == 3 and "may write to it" in error, error
    missing = subprocess.run([os.path.join(bin_dir, "efio-broker"), "--check", "--file", file + ".none"], capture_output=True, text=True)
    assert missing.returncode == 3 and "No such file" in missing.stderr, missing


its_file_is_checked()
for case in (nobody_receives_and_sends, the_file_decides, whoever_is_killed_leaves_nothing, nonsense_is_refused,
             late_answers_are_not_taken_for_others):
    with veth_pair() as (a, b):
        for end in (a, b):
            end.run("ethtool", "-K", end.device, "tx", "off", "tso", "off", "gso", "off")
            end.run("ethtool", "-L", end.device, "rx", "2", "tx", "2", check=True)
        case(a, b)
        print(case.__name__)
