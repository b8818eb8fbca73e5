"""Traces under bad luck: killed recorders, full disks, damaged files, signals, wrong arguments."""

import concurrent.futures
import json
import os
import random
import resource
import signal
import subprocess
import time

import retrotest
from retrotest import BUILD, RETRO, SEED, Skip, info, linux, replays, retro, summary
from matrix import image

KILLS = int(os.environ.get("RV_KILL_COUNT", "8"))
DAMAGED = int(os.environ.get("RV_DAMAGE_COUNT", "300"))
MUTATE = os.path.join(BUILD, "tests", "fuzz", "retro-mutate")
SANITIZED = bool(int(os.environ.get("RV_SANITIZED", "asan" in RETRO)))
WORK = ["-k", image("work"), "-a", "100000"]  # minutes of work
DOCUMENTED = {0, 2, 3, 4, 5, 6, 130}


def start(trace, *args):
    out = open(trace + ".console", "wb")
    p = subprocess.Popen([RETRO, "record", "--json", "-o", trace, *args], stdin=subprocess.DEVNULL,
                         stdout=out, stderr=subprocess.PIPE)
    out.close()
    return p


def console_of(trace):
    with open(trace + ".console", "rb") as f:
        return f.read()


def kill_recordings(folder, count, args, seconds, name):
    rng = random.Random(SEED)
    for n in range(count):
        trace = os.path.join(folder, f"{name}{n}.retro")
        p = start(trace, *args)
        wait = rng.uniform(*seconds)
        time.sleep(wait)
        p.kill()
        p.communicate()
        what = f"{name}, killed after {wait:.3f} s (seed {SEED}, number {n})"
        if not os.path.exists(trace) or os.path.getsize(trace) == 0:
            continue  # killed before it began
        q = retro("info", "--json", trace, status=None)
        if q.returncode == 4 and os.path.getsize(trace) < 1 << 16:
            continue  # killed before the header was whole; said so
        assert q.returncode in (0, 4), f"{what}: info says {q.stderr.decode()}"
        i = json.loads(q.stdout)
        assert not i["sealed"], f"{what}: it says that it is sealed"
        r = retro("replay", "--json", trace)
        assert console_of(trace).startswith(r.stdout), f"{what}: replays other output"
        s = summary(r)
        assert s["instructions"] >= i["instructions"], f"{what}: {s}, {i}"
        if wait > 1:  # what came before the last flush is there
            assert i["instructions"] > 0, f"{what}: nothing was kept: {i}"
        if wait > 3:  # a trace loses no more than the last second or so
            assert r.stdout, f"{what}: nothing was kept"
        os.unlink(trace)


def test_killed(folder):
    kill_recordings(folder, KILLS, WORK, (0.05, 4), "work")


def test_killed_linux(folder):
    kernel, initrd = linux()
    kill_recordings(folder, max(1, KILLS // 10),
                    ["-k", kernel, "-i", initrd, "-a", "console=ttyS0 panic=-1 work=5000"],
                    (3, 12), "linux")


def test_full_disk(folder):
    if os.geteuid() != 0:
        raise Skip("mounting a small file system needs root")
    mount = os.path.join(folder, "small")
    os.mkdir(mount)
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", mount], capture_output=True)
    if p.returncode:
        raise Skip("cannot mount a tmpfs: " + p.stderr.decode().strip())
    try:
        trace = os.path.join(mount, "t.retro")
        # Console output fills it: an effect a line.
        p = retro("record", "--json", "-o", trace, *WORK, "-t", "60", status=3)
        errors = [l for l in p.stderr.decode().splitlines() if l.startswith("retro: ")]
        assert len(errors) == 1 and "No space left" in errors[0], p.stderr.decode()
        r = retro("replay", "--json", trace)
        assert r.stdout and p.stdout.startswith(r.stdout), "the trace replays other output"
    finally:
        subprocess.run(["umount", mount])


# ---- damage ----

def limits():
    if not SANITIZED:  # the sanitizers reserve address space by the terabyte
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def try_damaged(args):
    source, console, digest, seed, folder = args
    trace = os.path.join(folder, f"damaged-{os.path.basename(source)}-{seed}")
    subprocess.run([MUTATE, source, trace, str(seed)], check=True, stdout=subprocess.DEVNULL)
    what = f"{source} seed {seed}"
    seen = []
    for command in (["info", "--json"], ["verify"], ["events"], ["replay", "--json"]):
        p = subprocess.run([RETRO, *command, trace], stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=120, preexec_fn=limits)
        err = p.stderr.decode(errors="replace")
        seen.append(p.returncode)
        if p.returncode not in DOCUMENTED or "Sanitizer" in err:
            return f"{what}: {command[0]} ended with {p.returncode}\n{err[-2000:]}"
        if p.returncode and command[0] != "verify":
            lines = [l for l in err.splitlines() if l.startswith("retro: ")]
            told = len(lines) == 1 or (command[0] == "info" and p.stdout)
            if not told:
                return f"{what}: {command[0]} ended with {p.returncode} and said {err!r}"
        if command[0] == "replay" and p.returncode == 0:
            if not console.startswith(p.stdout):
                return f"{what}: replays other output, with status 0"
            s = json.loads(err.splitlines()[-1])
            whole = seen[:2] == [0, 0]
            if whole and s["stop"] not in ("trace-end", "target") and p.stdout == console and \
                    (s["cpu_digest"], s["ram_digest"]) != digest:
                return f"{what}: replays to another state, with status 0"
    os.unlink(trace)
    return tuple(seen)


def test_damaged(folder):
    if not os.path.exists(MUTATE):
        raise Skip(MUTATE + " is not built")
    typed = os.path.join(folder, "in")
    with open(typed, "wb") as f:
        f.write(b"some input\nend\n")
    sources = []
    for name, args in (("real", []), ("ends", ["-a", "code"]), ("modes", []), ("work", ["-a", "3"]),
                       ("echo", ["-a", "irq", "--input", typed])):
        trace = os.path.join(folder, name + ".retro")
        p = retro("record", "--json", "-m", "8M", "-o", trace, "-k", image(name), *args)
        s = summary(p)
        sources.append((trace, p.stdout, (s["cpu_digest"], s["ram_digest"])))
    jobs = [(*sources[n % len(sources)], SEED * 1000000 + n, folder) for n in range(DAMAGED)]
    statuses = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(try_damaged, jobs):
            assert isinstance(result, tuple), result
            statuses[result] = statuses.get(result, 0) + 1
    print(f"  damaged traces, statuses of info, verify, events, replay: "
          f"{dict(sorted(statuses.items(), key=lambda kv: -kv[1]))}")
    assert len(statuses) > 1, "no damage was noticed"


# ---- signals, files, arguments ----

def test_for_machines(folder):
    """What verify, salvage and index say of a whole trace and of a damaged one, with --json."""
    def lines(p):
        return [json.loads(l) for l in p.stdout.decode().splitlines()]

    trace = os.path.join(folder, "t.retro")
    retro("record", "-q", "-o", trace, "-k", image("real"), "-t", "60")
    known = info(trace)
    events = sum(known["events"].values())
    verdict, = lines(retro("verify", "--json", trace))
    assert verdict["whole"] and verdict["sealed"] and verdict["events"] == events, verdict
    assert verdict["errors"] == 0 and verdict["images"] == len(known["header"]["images"]), verdict
    for made in True, False:
        index, = lines(retro("index", "--json", trace))
        assert index["made"] == made and index["instructions"] == known["instructions"], index
        assert index["bytes"] == os.path.getsize(trace + ".index"), index

    with open(trace, "r+b") as f:
        f.seek(-48, os.SEEK_END)  # the trailer: no event is in it
        f.write(bytes(48))
    *findings, verdict = lines(retro("verify", "--json", trace, status=4))
    errors = [f for f in findings if f["severity"] == "error"]
    assert errors and verdict["errors"] == len(errors) and not verdict["whole"], findings
    assert all(0 <= f["offset"] <= os.path.getsize(trace) and f["text"] for f in findings), findings
    out = os.path.join(folder, "out.retro")
    saved, = lines(retro("salvage", "--json", "-o", out, trace))
    assert saved["kept"]["events"] == events and saved["lost"]["events"] == 0, saved
    assert lines(retro("verify", "--json", out))[-1]["whole"]
    assert replays(out)["instructions"] == known["instructions"]

    retro("record", "-q", "--force", "--no-embed", "-o", trace, "-k", image("real"), "-t", "60")
    known = info(trace)
    events = sum(known["events"].values())
    with open(trace, "r+b") as f:  # no image is in it: its middle is in a chunk of events
        f.seek(os.path.getsize(trace) // 2)
        old = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([old[0] ^ 0xff]))
    saved, = lines(retro("salvage", "--json", "--force", "-o", out, trace))
    kept = saved["kept"]["events"]
    assert not saved["whole"] and saved["damage"] and kept < events, saved
    assert kept + saved["lost"]["events"] == events, (saved, events)
    assert sum(info(out)["events"].values()) == kept, saved


def test_signals_seal(folder):
    for number, stop in ((signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminate")):
        trace = os.path.join(folder, stop + ".retro")
        p = start(trace, *WORK)
        time.sleep(0.7)
        p.send_signal(number)
        _, err = p.communicate(timeout=10)
        assert p.returncode in (0, 130), (stop, p.returncode, err)
        i = info(trace)
        assert i["sealed"] and i["stop"] == stop, (stop, i)
        replays(trace, console=console_of(trace))


def test_existing_file(folder):
    trace = os.path.join(folder, "t.retro")
    with open(trace, "wb") as f:
        f.write(b"precious")
    p = retro("record", "-o", trace, "-k", image("real"), status=2)
    assert p.stderr.startswith(b"retro: ") and b"exists" in p.stderr, p.stderr
    with open(trace, "rb") as f:
        assert f.read() == b"precious", "an existing file was touched"
    # Nor is it when the guest cannot even be loaded, with --force.
    for wrong in ("/dev/null", os.path.join(folder, "absent")):
        p = retro("record", "-o", trace, "--force", "-k", wrong, status=None)
        assert p.returncode and p.stderr.startswith(b"retro: "), (p.returncode, p.stderr)
        with open(trace, "rb") as f:
            assert f.read() == b"precious", f"a recording that never began ({wrong}) replaced a file"
    retro("record", "-o", trace, "--force", "-k", image("real"))
    replays(trace)


def test_unwritable(folder):
    for path in ("/proc/t.retro", os.path.join(folder, "absent", "t.retro"), folder):
        p = retro("record", "-o", path, "-k", image("real"), status=None)
        lines = p.stderr.decode().splitlines()
        assert p.returncode in (2, 3) and len(lines) == 1 and lines[0].startswith("retro: "), \
            (path, p.returncode, p.stderr)


def test_no_embed(folder):
    trace = os.path.join(folder, "t.retro")
    kernel = os.path.join(folder, "kernel.img")
    with open(image("real"), "rb") as f:
        data = f.read()
    with open(kernel, "wb") as f:
        f.write(data)
    p = retro("record", "--no-embed", "-o", trace, "-k", kernel)
    assert not info(trace)["header"]["images"][0]["embedded"]
    q = retro("replay", "--json", "--kernel", kernel, trace)
    assert q.stdout == p.stdout
    q = retro("replay", trace, status=None)
    assert q.returncode == 0 and q.stdout == p.stdout or \
        q.returncode in (2, 3) and b"--kernel" in q.stderr, (q.returncode, q.stderr)
    with open(kernel, "wb") as f:
        f.write(data[:-1] + bytes([data[-1] ^ 1]))
    for args in (["--kernel", kernel], ["--kernel", image("modes")], ["--kernel", "/dev/null"]):
        q = retro("replay", *args, trace, status=None)
        assert q.returncode in (2, 3, 4) and q.stderr.startswith(b"retro: ") and not q.stdout, \
            (args, q.returncode, q.stderr)


def test_absurd_arguments(folder):
    trace = os.path.join(folder, "t.retro")
    retro("record", "-o", trace, "-k", image("real"))
    real = ["-k", image("real")]
    for args in (["run"], ["run", "-k"], ["record", *real], ["run", *real, "extra"],
                 ["run", *real, "-m", "0"], ["run", *real, "-m", "-1"], ["run", *real, "-m", "12X"],
                 ["run", *real, "-m", "99999999999G"], ["run", *real, "-m", "1000000G"],
                 ["run", *real, "-m", "1"], ["run", *real, "-m", "4097"],
                 ["run", *real, "-n", "0"], ["run", *real, "-n", "x"], ["run", *real, "-t", "0"],
                 ["run", *real, "-t", "-3"], ["run", *real, "-t", "nan"], ["run", *real, "-t", "inf"],
                 ["run", *real, "-e", "none"], ["run", *real, "--kind", "floppy"],
                 ["run", *real, "--cpu", "v1"], ["run", *real, "-e", "interpret", "--cpu", "hw"],
                 ["run", *real, "-e", "kvm-direct", "--cpu", "v3"],
                 ["run", *real, "-e", "kvm-nested", "--cpu", "v2"],
                 ["run", *real, "--pace", "slow"], ["run", *real, "--no-such"],
                 ["run", *real, "-o", trace], ["run", *real, "-a", "x" * 100000],
                 ["replay"], ["replay", trace, trace], ["replay", "--to", "-1", trace],
                 ["replay", "--to", "soon", trace], ["replay", "-e", "none", trace],
                 ["info"], ["info", "--no", trace], ["events", "--kind", "nonsense", trace],
                 ["verify"], ["salvage", trace], ["doctor", "x"], ["frobnicate"], []):
        p = retro(*args, status=None, timeout=60)
        lines = p.stderr.decode(errors="replace").splitlines()
        shown = " ".join(a[:40] for a in args)
        assert p.returncode == 2, f"retro {shown}: status {p.returncode}, not 2: {lines}"
        if args:
            assert len(lines) == 1 and lines[0].startswith("retro: "), f"retro {shown}: said {lines}"
    for args, status in ((["replay", image("real")], 4), (["info", "/dev/null"], 4), (["info", folder], 4),
                         (["replay", os.path.join(folder, "absent")], 3)):
        p = retro(*args, status=None)
        lines = p.stderr.decode().splitlines()
        assert p.returncode == status and len(lines) == 1 and lines[0].startswith("retro: "), \
            (args, p.returncode, lines)


if __name__ == "__main__":
    print(f"seed {SEED}")
    retrotest.main()
