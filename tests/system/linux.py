"""The Debian guest, doing real work: recorded, replayed, stopped in the middle, interrupted."""

import os
import random
import signal
import subprocess
import time

import retrotest
from retrotest import RETRO, SEED, info, linux, replays, retro, summary

APPEND = "console=ttyS0 panic=-1 quiet work=" + os.environ.get("RV_WORK", "20")


def record(folder, name, *more, append=APPEND):
    kernel, initrd = linux()
    trace = os.path.join(folder, name + ".retro")
    p = retro("record", "--json", "-o", trace, "-k", kernel, "-i", initrd, "--append", append, *more)
    return trace, p


def test_work_replays(folder):
    trace, p = record(folder, "work")
    console = p.stdout
    for text in (b"forked", b"sorted, last line", b"random:", b"clock:", b"Power down"):
        assert text in console, f"the guest did not get to {text}:\n{console.decode()}"
    s = summary(p)
    assert s["stop"] == "poweroff", s
    beyond = s["trace_bytes"] - s["image_bytes"]
    assert beyond <= 65536, f"the trace holds {beyond} bytes beyond the images"
    r = replays(trace, console=console, times=2)
    for key in ("instructions", "guest_ns", "cpu_digest", "ram_digest", "stop"):
        assert r[key] == s[key], f"{key}: recorded {s[key]}, replayed {r[key]}"
    assert b"whole, sealed" in retro("verify", trace).stdout
    assert info(trace)["console_bytes"] == len(console)
    # What the events say was printed is what was printed.
    events = retro("events", "--json", "--kind", "effect", trace).stdout.decode()
    said = "".join(retrotest.json.loads(l)["data"] for l in events.splitlines())
    assert said.encode("latin-1") == console, "the events tell of other output"


def test_two_recordings_differ(folder):
    a, pa = record(folder, "a")
    b, pb = record(folder, "b")
    line = [l for l in pa.stdout.splitlines() if l.startswith(b"random:")]
    other = [l for l in pb.stdout.splitlines() if l.startswith(b"random:")]
    assert line and other and line != other, "two recordings read the same /dev/urandom"
    assert summary(pa)["ram_digest"] != summary(pb)["ram_digest"]


def test_stops_where_told(folder):
    trace, p = record(folder, "to")
    total = summary(p)["instructions"]
    rng = random.Random(SEED)
    for _ in range(3):
        at = rng.randrange(1, total)
        first = summary(retro("replay", "--json", "--quiet", "--to", at, trace))
        again = summary(retro("replay", "--json", "--quiet", "--to", at, trace))
        assert first["instructions"] == at and first["stop"] == "target", first
        for key in ("cpu_digest", "ram_digest", "guest_ns"):
            assert first[key] == again[key], f"two replays to {at} differ in {key}"
    limited = os.path.join(folder, "limited.retro")
    kernel, initrd = linux()
    s = summary(retro("record", "--json", "-q", "-o", limited, "-k", kernel, "-i", initrd,
                      "--append", APPEND, "--max-instructions", "300000007"))
    assert s["instructions"] == 300000007 and s["stop"] == "max-instructions", s
    r = replays(limited)
    assert r["instructions"] == 300000007 and r["ram_digest"] == s["ram_digest"], r


def test_interrupted_recording_is_sealed(folder):
    kernel, initrd = linux()
    for number, reason in ((signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminate")):
        trace = os.path.join(folder, reason + ".retro")
        p = subprocess.Popen([RETRO, "record", "--json", "-o", trace, "-k", kernel, "-i", initrd,
                              "--append", "console=ttyS0 quiet panic=-1 mode=sleep"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        shown = b""
        while b"tick" not in shown:
            data = os.read(p.stdout.fileno(), 4096)
            assert data, "the guest ended by itself:\n" + shown.decode()
            shown += data
        time.sleep(0.2)
        p.send_signal(number)
        rest, err = p.communicate(timeout=30)
        assert p.returncode == 0, err.decode()
        i = info(trace)
        assert i["sealed"] and i["stop"] == reason, i
        replays(trace, console=shown + rest)


def test_pipe_feeds_the_shell(folder):
    kernel, initrd = linux()
    script = os.path.join(folder, "script")
    with open(script, "w") as f:
        f.write("echo answer $((6*7))\ncat /proc/version | wc -w\npoweroff -f\n")
    trace = os.path.join(folder, "pipe.retro")
    p = retro("record", "--json", "-o", trace, "-k", kernel, "-i", initrd, "--input", script,
              "--append", "console=ttyS0 quiet panic=-1 mode=shell")
    assert b"answer 42" in p.stdout and summary(p)["stop"] == "poweroff", p.stdout.decode()
    replays(trace, console=p.stdout)


if __name__ == "__main__":
    retrotest.main()
