"""Guests that mean ill: the machine answers as hardware would, ends cleanly, and replays exactly.

RV_HOSTILE_COUNT scales the random ones; RETRO chooses the build (the sanitizers', for preference)."""

import json
import os
import random
import signal
import struct
import subprocess
import time

import retrotest
from retrotest import RETRO, SEED, info, retro, summary
from matrix import image, same, SAME

COUNT = int(os.environ.get("RV_HOSTILE_COUNT", "2"))

# What hardware does with each: how the run ends and what the guest says.
TRAP = ("debug-exit", 255)
ENDS = {
    "jump-hole": (*TRAP, b"unexpected trap 6 at 0xd0000000"),
    "jump-high": (*TRAP, b"unexpected trap 6 at 0x280d0000000"),
    "jump-unmapped": (*TRAP, b"unexpected trap 14 at 0x5000000000"),
    "jump-noncanonical": (*TRAP, b"unexpected trap 13"),
    "jump-mmio": (*TRAP, b"unexpected trap"),
    "jump-ioapic": (*TRAP, b"unexpected trap"),
    "ram-end": (*TRAP, b"unexpected trap 6 at 0x10000000"),
    "straddle": (*TRAP, b"unexpected trap 6 at 0x10000008"),
    "data-straddles": ("debug-exit", 0, b"passed"),
    "long-instruction": (*TRAP, b"unexpected trap 13"),
    "tables-self": (None, None, b""),
    "tables-window": ("triple-fault", 0, b""),
    "tables-mmio": ("triple-fault", 0, b""),
    "tables-outside": ("triple-fault", 0, b""),
    "tables-hole": (*TRAP, b"unexpected trap 14"),
    "gdt-mmio": ("triple-fault", 0, b""),
    "gdt-hole": ("triple-fault", 0, b""),
    "idt-mmio": ("triple-fault", 0, b""),
    "idt-hole": ("triple-fault", 0, b""),
    "idt-unmapped": ("triple-fault", 0, b""),
    "tss-mmio": (None, None, b""),
    "stack-mmio": (None, None, b""),
    "stack-hole": (None, None, b""),
    "stack-unmapped": (*TRAP, b"unexpected trap 8"),
    "descriptors": ("debug-exit", 0, b"passed"),
}
STORMS = ["storm-lapic", "storm-pit", "storm-ipi", "storm-level"]
STUCK = ["fault-loop", "page-fault-loop", "rep-ram", "rep-scan", "rep-hole", "rep-mmio", "rep-outs",
         "rep-ins"]
RANDOM = ["ports", "mmio", "msrs", "controls", "code", "descriptors"]


def record(trace, *args):
    p = retro("record", "--json", "--force", "-o", trace, "-m", "256M", *args, timeout=300)
    return p, summary(p)


def agree(trace, p, s, what):
    q = retro("replay", "--json", trace, timeout=300)
    assert q.stdout == p.stdout, f"{what}: replay prints something else"
    same(s, summary(q), what, [k for k in SAME if k != "stop" or s["stop"] != "timeout"])


def run_case(folder, case, *limits):
    trace = os.path.join(folder, "t.retro")
    p, s = record(trace, "-k", image("hostile"), "-a", case, *limits)
    agree(trace, p, s, case)
    return p, s


def test_impossible_places(folder):
    for case, (stop, code, text) in ENDS.items():
        p, s = run_case(folder, case, "-n", "50M" if stop else "1M", "-t", "60" if stop else "1")
        assert stop is None or (s["stop"], s["code"]) == (stop, code) and text in p.stdout, \
            f"{case}: {s}\n{p.stdout[:500].decode(errors='replace')}"


def test_storms(folder):
    for case in STORMS:
        _, s = run_case(folder, case, "-n", "300k", "-t", "60")
        assert (s["stop"], s["instructions"]) == ("max-instructions", 300000), (case, s)


def test_endless_instructions(folder):
    """SIGINT and --timeout end what retires nothing, soon, with a sealed trace that replays."""
    for case in STUCK:
        for way in "signal", "timeout":
            trace = os.path.join(folder, "t.retro")
            args = ["-t", "0.3"] if way == "timeout" else []
            p = subprocess.Popen([RETRO, "record", "--json", "--force", "-o", trace, "-k",
                                  image("hostile"), "-m", "256M", "-a", case, *args],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            if way == "signal":
                time.sleep(0.6)
                p.send_signal(signal.SIGINT)
            began = time.monotonic()
            try:
                out, err = p.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                p.kill()
                raise AssertionError(f"{case}: {way} does not end it")
            took = time.monotonic() - began
            what = f"{case}, ended by {way}"
            assert p.returncode in (0, 130) and took < 5, f"{what}: {p.returncode}, {took:.1f} s, {err}"
            i = info(trace)
            assert i["sealed"] and i["stop"] in ("interrupt", "timeout"), f"{what}: {i}"
            q = retro("replay", "--json", trace, timeout=60)
            assert q.stdout == out, f"{what}: replay prints something else"


def test_nonsense(folder):
    for case in RANDOM:
        for n in range(COUNT):
            run_case(folder, f"{case} {SEED * 1000 + n}", "-n", "40M", "-t", "200")


def test_random_images(folder):
    """Random bytes as guests, in real mode and in long mode."""
    for n in range(10 * COUNT):
        rng = random.Random(SEED * 100000 + n)
        mode = rng.choice((16, 64))
        load = 0x8000 if mode == 16 else 0x100000
        body = bytes(rng.choice((0x66, 0xf3, 0x0f, 0x90, 0xcd)) if rng.random() < 0.2 else
                     rng.randrange(256) for _ in range(4096))
        guest = os.path.join(folder, "random.img")
        with open(guest, "wb") as f:
            f.write(b"RVFLAT1\0" + struct.pack("<IIQQQ", mode, 0, load, load + 40, load + 0x4000) + body)
        trace = os.path.join(folder, "t.retro")
        p, s = record(trace, "-k", guest, "-n", "100k", "-t", "20")
        agree(trace, p, s, f"random image {n}, seed {SEED}")


if __name__ == "__main__":
    print(f"seed {SEED}")
    retrotest.main()
