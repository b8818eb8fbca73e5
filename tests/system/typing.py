"""Input typed at random real times through a pseudo-terminal: every recording replays exactly."""

import os
import pty
import random
import select
import subprocess
import termios
import time

import retrotest
from retrotest import RETRO, SEED, info, linux, replays

COUNT = int(os.environ.get("RV_TYPING_COUNT", "3"))
COMMANDS = ["echo hello $((6*7))", "date +%s", "head -c 8 /dev/urandom | od -An -tx1",
            "cat /proc/uptime", "ls / | wc -l", "sleep 0.3; echo slept",
            "i=0; while [ $i -lt 50 ]; do i=$((i+1)); done; echo $i", "seq 1 300 | sha256sum"]


def record_typing(trace, seed):
    """Records a shell on a terminal and types commands into it. Returns what the terminal showed."""
    kernel, initrd = linux()
    rng = random.Random(seed)
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST  # what the guest prints must arrive as it is
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    p = subprocess.Popen([RETRO, "record", "-o", trace, "-k", kernel, "-i", initrd, "--append",
                          "console=ttyS0 panic=-1 quiet mode=shell", "--timeout", "300"],
                         stdin=slave, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    shown = b""

    def read(seconds):
        nonlocal shown
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([master], [], [], left)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    return False
                if not data:
                    return False
                shown += data
        return True

    deadline = time.monotonic() + 240
    while b"retro-shell#" not in shown:
        assert time.monotonic() < deadline, "no prompt:\n" + shown.decode(errors="replace")
        read(0.1)
    for _ in range(rng.randint(2, 4)):
        for ch in rng.choice(COMMANDS) + "\n":
            os.write(master, ch.encode())
            read(rng.expovariate(1 / 0.02))
        read(rng.uniform(0.05, 1.0))
    os.write(master, b"poweroff -f\n")
    while read(0.5):
        assert time.monotonic() < deadline, "no power-off"
    _, err = p.communicate(timeout=60)
    os.close(master)
    assert p.returncode == 0, err.decode()
    return shown


def test_typed_input_replays(folder):
    outputs = []
    for n in range(COUNT):
        trace = os.path.join(folder, f"{n}.retro")
        console = record_typing(trace, SEED * 1000 + n)
        i = info(trace)
        assert i["stop"] == "poweroff" and i["events"].get("input", 0) > 10, i
        s = replays(trace, console=console, times=2)
        outputs.append((s["cpu_digest"], s["ram_digest"]))
    assert len(set(outputs)) == len(outputs), "two recordings ended in the same state"


if __name__ == "__main__":
    retrotest.main()
