"""How io_gen ends: by Ctrl-C, by its counts, when its device goes away, when it was promised more than came."""
import json
import os
import signal
import subprocess
import tempfile
import time

from namespaces import interrupt, veth_pair
from skip import require_root

io_gen = os.path.join(os.environ["EFIO_BIN_DIR"], "io_gen")
work = tempfile.TemporaryDirectory(prefix="efio_io_gen_")


def run(*words):
    return subprocess.run([io_gen, *map(str, words)], capture_output=True, text=True, timeout=60)


def start(*words):
    process = subprocess.Popen([io_gen, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "io_gen: ready\n"
    return process


def balanced(port):
    """rx: received + made = delivered + waiting + dropped; tx: offered + made = sent + pending + dropped."""
    if "rx" in port:
        rx = port["rx"]
        assert rx["received"] + rx["made"] == rx["packets"] + rx["waiting"] + sum(rx["dropped"].values()), port
    if "tx" in port:
        tx = port["tx"]
        assert tx["offered"] + tx["made"] == tx["packets"] + tx["pending"] + sum(tx["dropped"].values()), port


def ctrl_c_prints_the_final_counts():
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        for threads in "12":
            process = start("both", "pipe:x", "pipe:x", "--threads", threads, "--json", "--say-ready", "--expect-clean")
            process.send_signal(signal_number)
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0 and err == "", (process.returncode, err)
            told = json.loads(out)
            tx, rx = told["ports"]
            assert told["interrupted"] and tx["tx"]["packets"] == rx["rx"]["packets"], told
            balanced(tx)
            balanced(rx)


def text_is_for_people_and_json_for_programs():
    text = run("both", "pipe:x", "pipe:x", "--count", 1000, "--flows", 70000)
    assert text.returncode == 0 and text.stderr == ""
    assert "1,000 delivered" in text.stdout and "share 65,536 streams" in text.stdout, text.stdout
    told = run("both", "pipe:x", "pipe:x", "--count", 1000, "--json")
    assert told.returncode == 0 and told.stderr == "" and told.stdout.count("\n") == 1
    keys = json.loads(told.stdout)
    assert {"version", "elapsed_s", "ports", "rate", "sequence", "checksums"} <= keys.keys()
    assert {"uri", "engine", "mode"} <= keys["ports"][0].keys()


def expectations_decide_the_exit_code():
    pair = ("both", "pipe:x", "pipe:x", "--count", 1000)
    assert run(*pair, "--expect-sent", 1000, "--expect-received", 1000, "--expect-lost", 0, "--expect-clean").returncode == 0
    for words, said in ((("--expect-sent", 999), "--expect-sent 999: 1000 were sent"),
                        (("--expect-received", 1001), "--expect-received 1001: 1000 were received")):
        failed = run(*pair, *words)
        assert failed.returncode == 1 and said in failed.stderr and failed.stderr.count("\n") == 1, failed
        assert "1,000 delivered" in failed.stdout


def durations_and_rates_are_kept():
    told = json.loads(run("both", "pipe:x", "pipe:x", "--rate", "20k", "--duration", "1s", "--json", "--expect-clean").stdout)
    sent = told["ports"][0]["tx"]["packets"]
    # The mean is exact up to the moment of the end, which a busy machine may put off.
    assert 0.95 <= told["elapsed_s"] < 5 and abs(sent / told["elapsed_s"] / 20000 - 1) < 0.1, told
    told = json.loads(run("both", "pipe:x", "pipe:x", "--rate", "10MbitL1", "--size", "1518", "--count", 400, "--json").stdout)
    assert abs(told["rate"]["tx_pps"] / (10e6 / (1538 * 8)) - 1) < 0.1, told


def a_capture_is_sent_and_read_back():
    capture = os.path.join(work.name, "a.pcapng")
    assert run("tx", f"pcap:{capture}", "--count", 5000, "--size", "imix", "--flows", 10, "--expect-sent", 5000).returncode == 0
    back = run("rx", f"pcap:{capture}", "--verify", "--json", "--expect-received", 5000, "--expect-clean")
    assert back.returncode == 0 and json.loads(back.stdout)["sequence"]["streams"] == 10, back


def a_deleted_interface_is_named_and_the_counts_still_come():
    with veth_pair() as (a, b):
        sender = a.start(io_gen, "tx", f"packet:{a.device}", "--rate", "1k", "--json", "--say-ready")
        receiver = b.start(io_gen, "rx", f"packet:{b.device}", "--json", "--say-ready")
        for process in (sender, receiver):
            while "ready" not in process.stderr.readline():
                assert process.poll() is None
        subprocess.run(["ip", "-n", a.name, "link", "del", a.device], check=True, timeout=30)
        for process, device in ((sender, a.device), (receiver, b.device)):
            out, err = process.communicate(timeout=30)
            assert process.returncode == 3 and device in err and err.count("\n") == 1, (process.returncode, err)
            told = json.loads(out)
            balanced(told["ports"][0])
            assert told["errors"] == [err.removeprefix("io_gen: ").rstrip("\n")]


def a_receiver_without_frames_costs_next_to_nothing():
    def used(process):
        """Seconds of processor time, to the nanosecond."""
        tasks = f"/proc/{process.pid}/task"
        return sum(int(open(f"{tasks}/{task}/schedstat").read().split()[0]) for task in os.listdir(tasks)) / 1e9

    with veth_pair() as (a, b):
        receivers = [a.start(io_gen, "rx", f"xdp:{a.device}", "--say-ready"), b.start(io_gen, "rx", f"packet:{b.device}", "--say-ready")]
        for process in receivers:
            assert "ready" in process.stderr.readline()
        for end in (a, b):  # after a load, from which a receiver that sleeps by the clock has to come back
            assert end.run(io_gen, "tx", f"packet:{end.device}", "--duration", "200ms").returncode == 0
        time.sleep(0.1)
        before, began = [used(process) for process in receivers], time.monotonic()
        time.sleep(3)
        for process, then, engine in zip(receivers, before, ("xdp", "packet")):
            share = (used(process) - then) / (time.monotonic() - began)
            assert 0 < share < 0.02, f"{engine}: {share:.2%} of a processor"
            interrupt(process)


def addresses_come_from_the_device_and_its_neighbours():
    with veth_pair() as (a, b):
        a.run("ip", "neigh", "add", "198.19.0.1", "lladdr", "02:12:34:56:78:9a", "dev", a.device, check=True)
        mac = a.run("cat", f"/sys/class/net/{a.device}/address").stdout.strip()
        capture = os.path.join(work.name, "mac.pcap")
        receiver = b.start(io_gen, "rx", f"packet:{b.device}", "--count", 1, "--duration", 20, "--write", capture, "--say-ready")
        receiver.stderr.readline()
        sent = a.run(io_gen, "tx", f"packet:{a.device}", "--count", 1)
        assert sent.returncode == 0 and sent.stderr == "", sent
        assert receiver.wait(timeout=30) == 0
        with open(capture, "rb") as file:
            frame = file.read()[24 + 16:]
        assert frame[:12].hex(":") == "02:12:34:56:78:9a:" + mac, frame[:12].hex(":")


with work:
    ctrl_c_prints_the_final_counts()
    text_is_for_people_and_json_for_programs()
    expectations_decide_the_exit_code()
    durations_and_rates_are_kept()
    a_capture_is_sent_and_read_back()
    require_root()
    a_deleted_interface_is_named_and_the_counts_still_come()
    a_receiver_without_frames_costs_next_to_nothing()
    addresses_come_from_the_device_and_its_neighbours()
