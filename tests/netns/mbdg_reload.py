"""mbdg's configuration file, and SIGHUP, with a numbered flow between two ports while others come and go."""
import json
import os
import signal
import tempfile

from namespaces import interrupt
from skip import require_program, require_root
from _bridged import conserve, hosts_around, io_gen, mbdg

require_root()
require_program("ethtool")
COUNT = 60_000 if os.environ.get("EFIO_LONG") == "1" else 20_000


def port(host, *lines):
    return "\n".join(["[[port]]", f'uri = "{host.uri({})}"', *lines, ""])


def reload_under_load(kinds, *words):
    with hosts_around(kinds, silent=True) as (middle, hosts), tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        first, second, third = hosts

        def write(*parts):
            file.seek(0)
            file.truncate()
            file.write("\n".join(parts))
            file.flush()

        def change(expected, *parts):
            write(*parts)
            os.kill(process.pid, signal.SIGHUP)
            line = process.stderr.readline()
            assert expected in line, line

        steady = ("json = true", "say-ready = true", port(first), port(second, f'static = ["{second.mac}"]'))
        write(*steady)
        process = middle.start(mbdg, "--config", file.name, *words)
        assert "ready" in process.stderr.readline()
        receiver = second.start(io_gen, "rx", "packet:eth?settle=0", "--count", COUNT, "--duration", "30s", "--expect-clean", "--json",
                                "--say-ready")
        assert "ready" in receiver.stderr.readline()
        sender = first.start(io_gen, "tx", "packet:eth?settle=0", "--count", COUNT, "--rate", "20k", "--dst-mac", second.mac, "--flows", 100)
        changes = 0
        while sender.poll() is None:
            change("2 ports as before, 1 added, 0 removed", *steady, port(third, "storm = 1000"))
            change("3 ports as before, 0 added, 0 removed", *steady, port(third, 'filter = "arp"', 'rate = "1M"'))
            change("2 ports as before, 0 added, 1 removed", *steady)
            change(f"{file.name}:10: there is no key strom; is storm meant?", *steady, "strom = 5")
            changes += 3
        out, error = receiver.communicate(timeout=60)
        got = json.loads(out)
        out, error = interrupt(process)
        result = json.loads(out)
        assert receiver.returncode == 0 and got["ports"][0]["rx"]["packets"] == COUNT, (got["ports"], result["ports"][:2], result["conservation"], result["reloads"])
        assert process.returncode == 0, error
        assert result["reloads"]["taken"] == changes and result["reloads"]["refused"] == changes // 3, result
        assert [entry["openings"] for entry in result["ports"][:2]] == [1, 1], result
        assert all(entry["removed"] for entry in result["ports"][2:]) and len(result["ports"]) == 2 + changes // 3, result
        conserve(result)
        print(f"{' '.join(kinds)} {' '.join(words)}: {COUNT} frames through {changes} changes, none lost or twice")


reload_under_load(["packet", "packet", "packet"])
reload_under_load(["packet", "packet", "xdp"], "--cpu", "0,1")
print("mbdg: satisfied")
