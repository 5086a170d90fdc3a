"""The kernel in another namespace pings and arpings a host made of two plugins, over packet:, xdp: and tap:."""
import os
import re
import subprocess

from namespaces import interrupt, veth_pair, wait_until
from skip import require_program, require_root

require_root()
for program in ("ping", "arping"):
    require_program(program)

host = os.path.join(os.environ["EFIO_BIN_DIR"], "host")
address, mac = "10.9.0.2", "02:00:00:00:00:02"


def scheme_is_there(scheme):
    engines = subprocess.run([os.path.join(os.environ["EFIO_BIN_DIR"], "list_engines")], capture_output=True, text=True,
                             check=True).stdout
    return any(line.split()[0] == scheme and line.endswith(" available") for line in engines.splitlines())


def is_satisfied(kernel, device):
    """ping, arping and the kernel's neighbour table, from `kernel` with 10.9.0.1 on `device`."""
    def answers():
        return kernel.run("ping", "-c", 1, "-W", 1, address).returncode == 0
    wait_until(answers, f"no answer over {device}")
    for size in (0, 56, 1400):
        ping = kernel.run("ping", "-c", 20, "-i", "0.01", "-s", size, "-W", 1, address)
        assert "20 received, 0% packet loss" in ping.stdout, ping.stdout + ping.stderr
        assert "wrong data byte" not in ping.stdout and "DUP" not in ping.stdout, ping.stdout
    arping = kernel.run("arping", "-c", 2, "-I", device, address)
    assert arping.returncode == 0 and arping.stdout.upper().count(f"[{mac.upper()}]") == 2, arping.stdout
    # RFC 5227: somebody who asks whether the address is free is told that it is not.
    assert kernel.run("arping", "-D", "-c", 1, "-w", 1, "-I", device, address).returncode == 1
    neighbour = kernel.run("ip", "neigh", "show", address, "dev", device).stdout
    assert re.search(rf"lladdr {mac} (REACHABLE|DELAY|STALE)", neighbour), neighbour
    # Nothing but itself answers.
    assert kernel.run("ping", "-c", 1, "-w", 1, "10.9.0.3").returncode != 0


for scheme in ("packet", "xdp"):
    if not scheme_is_there(scheme):
        print(f"{scheme}: is not in this build")
        continue
    with veth_pair() as (kernel, ours):
        kernel.run("ip", "addr", "add", "10.9.0.1/24", "dev", kernel.device, check=True)
        process = ours.start(host, f"{scheme}:{ours.device}", f"{address}/24")
        try:
            is_satisfied(kernel, kernel.device)
        except (AssertionError, TimeoutError):
            print(scheme, process.poll(), interrupt(process) if process.poll() is None else process.communicate())
            raise
        print(f"{scheme}: satisfied")

with veth_pair() as (kernel, _):
    process = kernel.start(host, "tap:efiohost0", f"{address}/24")
    wait_until(lambda: kernel.run("ip", "link", "show", "efiohost0").returncode == 0, "no TAP device")
    kernel.run("ip", "addr", "add", "10.9.0.1/24", "dev", "efiohost0", check=True)
    is_satisfied(kernel, "efiohost0")
    print("tap: satisfied")
