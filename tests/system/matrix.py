"""Every guest of tests/guests on every engine: run, recorded, replayed, and each engine's recording
replayed by the others. The guests check themselves; here they must end as they should, with the same
output after the same number of instructions everywhere."""

import json
import os
import random
import subprocess
import time

import retrotest
from retrotest import BUILD, RETRO, SEED, Skip, info, retro, summary

GUESTS = os.environ.get("RV_GUESTS", os.path.join(BUILD, "tests", "guests"))
STOPS = int(os.environ.get("RV_MATRIX_STOPS", "3"))  # random positions a guest is stopped at
SLOW_MAX = int(os.environ.get("RV_SLOW_MAX", "60000"))
ONLY = os.environ.get("RV_ONLY", "").split()  # cases, "-" for spaces; none: all of them
WITHOUT = os.environ.get("RV_WITHOUT", "").split()
# How much the guests compute that are told: less where the machine itself is emulated instruction by
# instruction.
WORK = os.environ.get("RV_WORK", "20")
ROUNDS = os.environ.get("RV_ROUNDS", "200")
LIMIT = "200M"  # instructions: a guest that does not end shows as max-instructions

# name: (stop, code, console must contain)
PASS = ("debug-exit", 0, b"passed\n")
GUEST_ENDS = {
    "poweroff": ("poweroff", 0, b""),
    "reset-i8042": ("reset", 0, b""),
    "reset-port92": ("reset", 0, b""),
    "reset-cf9": ("reset", 0, b""),
    "halt": ("halted", 0, b""),
    "code": ("debug-exit", 0xdeadbeef, b""),
    "double-fault": ("debug-exit", 0, b"double fault\n"),
    "triple-fault": ("triple-fault", 0, b""),
}
PLAIN = ["real", "modes", "segments", "tasks", "paging", "spaces", "timers", "awkward", "smc", "debug",
         "clock", "fpu", "vectors", "vecstate", "bits", "system"]
V2 = ["fpu", "vectors", "vecstate", "bits"]  # with this CPU profile, too, whatever auto takes
ECHO = b"some text\r\nthe quick brown fox 0123456789\n" * 8 + b"end\n"


def image(name):
    path = os.path.join(GUESTS, name + ".img")
    assert os.path.exists(path), f"{path} is not built: make guests"
    return path


def cases():
    for case in every_case():
        name = case[0].replace(" ", "-")
        if (not ONLY or name in ONLY) and name not in WITHOUT:
            yield case


def every_case():
    for name in PLAIN:
        yield name, ["-k", image(name)], PASS
    for name in V2:
        yield name + " v2", ["-k", image(name), "--cpu", "v2"], PASS
    yield "work", ["-k", image("work"), "-a", WORK], PASS
    yield "generate", ["-k", image("generate"), "-a", ROUNDS], PASS
    typed = os.path.join(GUESTS, "echo.txt")
    with open(typed, "wb") as f:
        f.write(ECHO)
    for mode in "poll", "irq":
        yield "echo " + mode, ["-k", image("echo"), "-a", mode, "--input", typed], PASS
    for end, expected in GUEST_ENDS.items():
        yield "ends " + end, ["-k", image("ends"), "-a", end], expected


def engine_works(engine, _known={}):
    """None, or why the engine cannot be used here."""
    if engine not in _known:
        p = retro("run", "-e", engine, "-n", LIMIT, "-t", "20", "-k", image("real"), status=None)
        why = p.stderr.decode(errors="replace").strip().splitlines()
        _known[engine] = None if p.returncode == 0 and b"passed" in p.stdout else \
            (why[0] if p.returncode else "it does not run the first guest")
    return _known[engine]


def length(name, args, _known={}):
    """The instructions of a case, on the reference engine."""
    if name not in _known:
        _known[name] = summary(retro("run", "-e", "interpret", "--json", "-n", LIMIT, *args))["instructions"]
    return _known[name]


def suited(*engines):
    """The cases short enough for the engines: where KVM single-steps, not all are, and what it cannot do
    must not be recorded for it."""
    for name, args, expected in cases():
        if "kvm-direct" in engines:
            if "--cpu" in args:
                continue
            args = [*args, "--cpu", "v2"]
        if "kvm-direct" in engines and length(name, args) > SLOW_MAX:
            print(f"not run on kvm-direct: {name}, longer than {SLOW_MAX} instructions (RV_SLOW_MAX)")
        else:
            yield name, args, expected


ENGINES = ["interpret", "translate", "kvm-direct"]
SAME = ("stop", "code", "instructions", "guest_ns", "cpu_digest", "ram_digest")


def same(a, b, what, keys=SAME):
    for key in keys:
        assert a[key] == b[key], f"{what}: {key} is {b[key]}, not {a[key]}"


def check_end(name, p, s, expected):
    stop, code, text = expected
    assert (s["stop"], s["code"] & 0xffffffff) == (stop, code) and text in p.stdout, \
        f"{name}: ended by {s['stop']} {s['code']}\n{p.stdout.decode(errors='replace')}"


def record(engine, trace, args, more=()):
    p = retro("record", "-e", engine, "--json", "-n", LIMIT, "-o", trace, *args, *more)
    return p, summary(p)


def replay(engine, trace, more=()):
    p = retro("replay", "-e", engine, "--json", *more, trace)
    return p, summary(p)


def on(engine, folder):
    if why := engine_works(engine):
        raise Skip(f"engine {engine}: {why}")
    for name, args, expected in suited(engine):
        trace = os.path.join(folder, "t.retro")
        live = retro("run", "-e", engine, "--json", "-n", LIMIT, *args)
        check_end(name, live, summary(live), expected)
        p, recorded = record(engine, trace, args)
        check_end(name, p, recorded, expected)
        assert p.stdout == live.stdout, f"{name}: recorded, it prints something else"
        same(summary(live), recorded, f"{name}, run and recorded", ("instructions", "guest_ns"))
        i = info(trace)
        assert i["sealed"] and i["stop"] == recorded["stop"], f"{name}: {i}"
        retro("verify", trace)
        for _ in range(2):
            q, played = replay(engine, trace)
            assert q.stdout == p.stdout, f"{name}: replay prints something else"
            same(recorded, played, f"{name}, recorded and replayed")
        os.unlink(trace)


def across(first, second, folder):
    for engine in (first, second):
        if why := engine_works(engine):
            raise Skip(f"engine {engine}: {why}")
    for name, args, expected in suited(first, second):
        trace = os.path.join(folder, "t.retro")
        p, recorded = record(first, trace, args)
        q, played = replay(second, trace)
        assert q.stdout == p.stdout, f"{name}: {second} prints something else than {first}"
        same(recorded, played, f"{name}, recorded on {first}, replayed on {second}")
        os.unlink(trace)


for _engine in ENGINES:
    globals()["test_" + _engine.replace("-", "_")] = lambda folder, e=_engine: on(e, folder)
for _first in ENGINES:
    for _second in ENGINES:
        if _first != _second:
            globals()[f"test_{_first}_to_{_second}".replace("-", "_")] = \
                lambda folder, a=_first, b=_second: across(a, b, folder)


# On hardware guest time is the host's, which these guests do not expect.
FIXED_PACE = {"timers": "it compares guest time with what it computed meanwhile",
              "awkward": "its timer is faster than an exit from the guest"}


def test_kvm_nested(folder):
    """Recorded on hardware, replayed on software, from the positions of a guest nobody counted."""
    p = retro("run", "-e", "kvm-nested", "-t", "60", "-k", image("real"), status=None)
    if p.returncode:
        raise Skip("engine kvm-nested: " + p.stderr.decode(errors="replace").strip())
    trace = os.path.join(folder, "t.retro")
    for name, args, expected in cases():
        if "--cpu" in args:
            continue  # it has a profile of its own
        if name in FIXED_PACE:
            print(f"not run on kvm-nested: {name}, {FIXED_PACE[name]}")
            continue
        p = retro("record", "-e", "kvm-nested", "--json", "--force", "-t", "120", "-o", trace, *args)
        recorded = summary(p)
        check_end(name, p, recorded, expected)
        for engine in "interpret", "translate":
            q, played = replay(engine, trace)
            assert q.stdout == p.stdout, f"{name}: on {engine}, replay prints something else"
            same(recorded, played, f"{name}, recorded on hardware, replayed on {engine}",
                 ("stop", "code", "guest_ns", "cpu_digest", "ram_digest"))


def test_stops_anywhere(folder):
    """A recording cut short anywhere, and a replay stopped anywhere, agree on the state there."""
    rng = random.Random(SEED)
    for name, args, _ in cases():
        whole, half = os.path.join(folder, "w.retro"), os.path.join(folder, "h.retro")
        p, s = record("interpret", whole, args, ["--force"])
        for _ in range(STOPS):
            n = rng.randint(1, s["instructions"])
            what = f"{name}, seed {SEED}, instruction {n}"
            q, to = replay("interpret", whole, ["--to", n])
            assert to["instructions"] == n, f"{what}: replay stopped at {to['instructions']}"
            assert p.stdout.startswith(q.stdout), f"{what}: replay prints something else"
            r, cut = record("interpret", half, args, ["-n", n, "--force"])
            if to["stop"] == "target":
                assert (cut["stop"], cut["instructions"]) == ("max-instructions", n), f"{what}: {cut}"
            assert r.stdout == q.stdout, f"{what}: cut short, the recording prints something else"
            same(to, cut, what, ("ram_digest",))
            u, again = replay("interpret", half)
            assert u.stdout == r.stdout, f"{what}: the short recording replays differently"
            same(cut, again, what)


def type_into(folder, mode, seed):
    """Records the echo guest while bytes arrive at random times; returns the trace and what it said."""
    rng = random.Random(seed)
    trace = os.path.join(folder, f"{mode}-{seed}.retro")
    p = subprocess.Popen([RETRO, "record", "--json", "-o", trace, "-k", image("echo"), "-a", mode,
                          "-t", "60"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    left = b"".join(rng.choice([b"abc ", b"xyz\n", b"end of it\n", b"\x00\xff"]) for _ in range(40))
    left += b"\nend\n"
    while left:
        n = rng.randint(1, 9)
        p.stdin.write(left[:n])
        p.stdin.flush()
        left = left[n:]
        if rng.random() < 0.5:
            time.sleep(rng.expovariate(1 / 0.003))
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and b"passed" in out, (mode, seed, out, err)
    return trace, out, json.loads(err.decode().splitlines()[-1])


def test_input_anywhere(folder):
    rng = random.Random(SEED)
    for mode in "poll", "irq":
        for n in range(STOPS):
            seed = SEED * 1000 + n
            trace, out, s = type_into(folder, mode, seed)
            what = f"echo {mode}, seed {seed}"
            for _ in range(2):
                q, played = replay("interpret", trace)
                assert q.stdout == out, f"{what}: replay prints something else"
                same(s, played, what)
            at = rng.randint(1, s["instructions"])
            q, to = replay("interpret", trace, ["--to", at])
            assert to["instructions"] == at and out.startswith(q.stdout), f"{what}, to {at}: {to}"


if __name__ == "__main__":
    retrotest.main()
