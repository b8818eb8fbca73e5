"""The KVM engine on mainline kvm_amd and kvm_intel, in the labs of tests/lab: the suites that run
elsewhere run inside, and recordings made inside replay outside. RV_LABS=full runs all of it."""

import json
import os
import subprocess
import sys

import retrotest
from retrotest import BUILD, Skip, linux, retro, summary

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import lab  # noqa: E402

FULL = os.environ.get("RV_LABS") == "full"
RETRO = (os.path.join(BUILD, "retro"), "/tree/build/retro")
GUESTS = (os.path.join(BUILD, "tests", "guests"), "/tree/build/tests/guests")
SYSTEM = (HERE, "/tree/tests/system")
PYTHON = os.path.realpath(sys.executable)
IMAGES = "/tree/build/tests/guests"
# What QEMU's software processor does otherwise than the manual, and these guests look at.
INEXACT = {"fpu": "x87 exception flags",
           "segments": "limits of segments",
           "paging": "error codes of page faults at reserved bits",
           "system": "faults of privileged instructions",
           "ends-double-fault": "SS behind an interrupt stack of the same privilege"}


def full_only():
    if not FULL:
        raise Skip("one of the long ones: RV_LABS=full runs it")


def inside(machine, command, inputs, limit, out=None, cpu=None):
    """Runs a command in a lab; returns what it printed."""
    console = []
    try:
        status = lab.run(machine, command, inputs, out, limit, console.append, cpu=cpu)
    except lab.LabError as e:
        raise Skip(f"no {machine} lab: {e}")
    text = b"".join(console).decode(errors="replace")
    assert status != lab.TIMEOUT, f"{machine} lab: not done within {limit} s\n{text[-2000:]}"
    assert status == 0, f"{machine} lab: exit status {status}\n{text[-3000:]}"
    return text


def python_files(module):
    """This Python and the files it loads for a module of tests/system, at their own places."""
    code = f"""import sys; sys.path.insert(0, {HERE!r}); import {module}, encodings.idna
for m in list(sys.modules.values()): print(getattr(m, "__file__", None) or "")"""
    loaded = subprocess.run([PYTHON, "-c", code], stdout=subprocess.PIPE, check=True).stdout.decode()
    return [(path, path) for path in [PYTHON] + loaded.split() if path.startswith("/")]


def matrix(machine, words, limit, only=(), without=(), settings=""):
    for name in without:
        print(f"  {machine} lab: not run: {name}: {without[name]}")
    text = inside(machine, f"cd /tree && RV_ONLY='{' '.join(only)}' RV_WITHOUT='{' '.join(without)}' "
                           f"{settings} {PYTHON} tests/system/matrix.py {words}",
                  [RETRO, GUESTS, SYSTEM] + python_files("matrix"), limit)
    for line in text.splitlines():
        if line.startswith(("not run", "skipped")):
            print(f"  {machine} lab: {line}")
    assert " 0 skipped" in text, f"{machine} lab: something was skipped\n{text}"


def replays_here(folder, name):
    """What was recorded inside replays outside, on software, with the same output and end."""
    path = os.path.join(folder, name)
    with open(path + ".summary") as f:
        recorded = json.loads(f.read().splitlines()[-1])
    with open(path + ".console", "rb") as f:
        console = f.read()
    for engine in "interpret", "translate":
        p = retro("replay", "-e", engine, "--json", path + ".retro")
        assert p.stdout == console, f"{name}: outside, on {engine}, it prints something else"
        played = summary(p)
        for key in ("stop", "code", "ram_digest", "cpu_digest"):
            assert played[key] == recorded[key], \
                f"{name}, on {engine}: {key}: {recorded} inside, {played} outside"
    # Lifted, it is as one that was made in software: with positions, and the same end.
    lifted = path + "-lifted.retro"
    said = json.loads(retro("lift", "--json", "-o", lifted, path + ".retro").stdout)
    played = summary(retro("replay", "--json", lifted))
    for key, want in (("instructions", said["instructions"]), ("stop", recorded["stop"]),
                      ("ram_digest", recorded["ram_digest"])):
        assert played[key] == want, f"{name}, lifted: {key}: {played}, lift said {said}"
    assert said["candidates"] >= said["landmarks"] == recorded["hardware"]["landmarks"], \
        f"{name}: {recorded}, lift said {said}"
    return recorded, console


def recordings(machine, engine, names, folder, limit):
    """Recorded on hardware inside, replayed outside. A name's second word is the command line."""
    command = "cd /out"
    for name in names:
        guest, _, line = name.partition(" ")
        command += f" && {RETRO[1]} record -e {engine} --json -t 120 -o '{name}.retro' -a '{line}'" \
                   f" -k {IMAGES}/{guest}.img >'{name}.console' 2>'{name}.summary'"
    inside(machine, command, [RETRO, GUESTS], limit, folder)
    for name in names:
        recorded, console = replays_here(folder, name)
        stop = name.removeprefix("ends ")
        assert b"passed" in console or recorded["stop"] == stop, \
            f"{name}: {recorded['stop']}\n{console.decode(errors='replace')}"
        # Reads of the counter are answered beside the machine, or nothing of that was tested.
        assert name != "clock" or recorded["hardware"]["told"] > 100, f"{name}: {recorded}"


def debian(machine, folder, limit, append, memory):
    kernel, initrd = linux()
    inside(machine, f"cd /out && {RETRO[1]} record -e kvm-nested --json -t {limit} -m {memory} -o "
                    f"debian.retro -k /vmlinuz -i /initrd.gz --append '{append}' "
                    ">debian.console 2>debian.summary",
           [RETRO, (kernel, "/vmlinuz"), (initrd, "/initrd.gz")], limit + 600, folder)
    recorded, console = replays_here(folder, "debian")
    assert recorded["stop"] == "poweroff" and b"sorted, last line" in console, console.decode()


def test_amd_recordings(folder):
    recordings("amd", "kvm-nested", ["real", "modes", "tasks", "smc", "debug", "clock", "spin", "spaces",
                                      "generate", "ends triple-fault"], folder, 300)


def doctor(machine, vendor, folder, limit):
    text = inside(machine, f"{RETRO[1]} doctor --json >/out/doctor", [RETRO], limit, folder)
    with open(os.path.join(folder, "doctor")) as f:
        found = json.load(f)
    assert found["nested"]["works"] and found["nested"]["vendor"] == vendor, f"{found}\n{text}"
    assert found["kvm"]["engine_works"], f"{found}\n{text}"
    assert set(found["self_test"].values()) == {"replayed"} and len(found["self_test"]) == 4, found


def test_amd_doctor(folder):
    doctor("amd", "svm", folder, 120)


# What replays a recording, and what only reads the file.
NEED_THE_CPU = ["replay -q", "replay -q -e interpret", "gdb -q --listen 0", "index -q", "state -q",
                "ps -q", "stat -q", "lockstep -q", "view -q -o page.html", "export -q -F csv -o csv",
                "query -q last-write", "profile -q", "coverage -q"]
READ_THE_FILE = ["info", "info --json", "verify", "events", "console", "console --at 100",
                 "diff -q /v3.retro", "salvage -f -o whole.retro"]


def test_amd_without_avx(folder):
    """A processor of the x86-64-v2 class: recordings with CPU profile v3 do not replay there, all
    commands say why, and auto takes v2."""
    trace = os.path.join(folder, "v3.retro")
    p = retro("record", "--cpu", "v3", "-q", "-o", trace, "-k", os.path.join(GUESTS[0], "real.img"),
              status=None)
    if p.returncode == 6:
        raise Skip("this host has no v3, either: " + p.stderr.decode().strip())
    assert p.returncode == 0, p.stderr.decode()
    runs = [(n, f"{RETRO[1]} {c} /v3.retro" + " 0x1000" * ("query" in c))
            for n, c in enumerate(NEED_THE_CPU + READ_THE_FILE)]
    runs += [("auto", f"{RETRO[1]} record -q -o v2.retro -k {IMAGES}/real.img"),
             ("v2", f"{RETRO[1]} info --json v2.retro"),
             ("v3", f"{RETRO[1]} run -q --cpu v3 -k {IMAGES}/real.img"),
             ("doctor", f"{RETRO[1]} doctor --json")]
    command = "cd /out" + "".join(f"; {c} >{n}.out 2>{n}.err; echo $? >{n}.status" for n, c in runs)
    inside("amd", command, [RETRO, GUESTS, (trace, "/v3.retro")], 300, folder, cpu="Nehalem")

    def text(name):
        with open(os.path.join(folder, str(name)), errors="replace") as f:
            return f.read()

    def lacks_avx(name, what, *words):
        lines = text(f"{name}.err").splitlines()
        assert text(f"{name}.status").strip() == "6", f"{what}: {text(f'{name}.status')} {lines}"
        assert len(lines) == 1 and lines[0].startswith("retro: "), f"{what}: {lines}"
        for word in ("v3", "lacks AVX") + words:
            assert word in lines[0], f"{what}: {lines}"

    for n, what in enumerate(NEED_THE_CPU):
        lacks_avx(n, what, "/v3.retro", "replay it on a host that has it")
    for n, what in enumerate(READ_THE_FILE, len(NEED_THE_CPU)):
        assert text(f"{n}.status").strip() == "0", f"{what}: {text(f'{n}.err')}"
    lacks_avx("v3", "run --cpu v3", "--cpu v2")
    assert json.loads(text("v2.out"))["header"]["profile"] == "v2", text("auto.err")
    found = json.loads(text("doctor.out"))
    assert (found["cpu"], found["v3_lacks"]) == ("v2", "AVX"), found


# The host's own processor leaves other undefined flags than the lab's in the first two: recordings that
# have these do not replay inside. The rest is here for the sake of variety.
ELSEWHERE = ["awkward", "paging", "modes", "tasks", "vectors", "vecstate", "steps", "system"]


def test_amd_replays_what_was_recorded_elsewhere(folder):
    """The processor inside is of another make, and leaves other flags where the manual leaves them
    undefined. Recordings made outside replay inside all the same, on both engines."""
    kernel, initrd = linux()
    traces = os.path.join(folder, "traces")
    os.mkdir(traces)
    for guest in ELSEWHERE:
        retro("record", "-q", "-t", 60, "-o", os.path.join(traces, guest + ".retro"),
              "-k", os.path.join(GUESTS[0], guest + ".img"), status=None)
    retro("record", "-q", "-m", "256M", "-o", os.path.join(traces, "debian.retro"), "-k", kernel,
          "-i", initrd, "-a", "console=ttyS0 panic=-1 quiet", "--max-instructions", 650_000_000)
    runs = [(guest, engine) for guest in ELSEWHERE for engine in ("interpret", "translate")]
    runs.append(("debian", "translate"))
    command = "cd /out" + "".join(f"; {RETRO[1]} replay -q -e {engine} /traces/{guest}.retro >/dev/null "
                                  f"2>{guest}-{engine}; echo $? >>{guest}-{engine}"
                                  for guest, engine in runs)
    inside("amd", command, [RETRO, (traces, "/traces")], 300, folder)
    wrong = []
    for guest, engine in runs:
        with open(os.path.join(folder, f"{guest}-{engine}"), errors="replace") as f:
            said = f.read()
        if not (said.endswith("\n0\n") and "as recorded" in said):
            wrong.append(f"{guest}, on {engine}: {said}")
    assert not wrong, "\n".join(wrong)


def test_intel_doctor(folder):
    full_only()
    doctor("intel", "vmx", folder, 1800)


def test_amd_debian(folder):
    full_only()
    debian("amd", folder, 900, "console=ttyS0 panic=-1 quiet work=20", "256M")


def test_amd_cut_short(folder):
    """Ctrl-C, kill -9 and a full disk end a recording of Linux; what there is of it replays outside."""
    full_only()
    kernel, initrd = linux()
    guest = "-q -m 128M -k /vmlinuz -i /initrd.gz -a 'console=ttyS0 panic=-1 quiet'"
    record = f"{RETRO[1]} record -e kvm-nested {guest}"
    inside("amd", "cd /out; mkdir small; mount -t tmpfs -o size=64k tmpfs small"
                  f"; {record} -o interrupted.retro >/dev/null 2>interrupted.err & pid=$!"
                  "; sleep 12; kill -INT $pid; wait $pid; echo $? >interrupted.status"
                  f"; {record} -o killed.retro >/dev/null 2>&1 & pid=$!"
                  "; sleep 12; kill -KILL $pid; wait $pid"
                  f"; {record} --json --no-embed -o small/full.retro -t 120 >/dev/null 2>full.err"
                  "; echo $? >full.status; cp small/full.retro .; umount small; rmdir small; true",
           [RETRO, (kernel, "/vmlinuz"), (initrd, "/initrd.gz")], 600, folder)

    def text(name):
        with open(os.path.join(folder, name)) as f:
            return f.read()

    assert text("interrupted.status").strip() == "0", text("interrupted.status")
    assert "interrupted by the user" in text("interrupted.err"), text("interrupted.err")
    assert text("full.status").strip() == "3", text("full.status")
    errors = [line for line in text("full.err").splitlines() if line.startswith("retro: ")]
    assert len(errors) == 1 and "No space left" in errors[0], errors
    images = ["--kernel", kernel, "--initrd", initrd]
    for name, more in ("interrupted", []), ("killed", []), ("full", images):
        path = os.path.join(folder, name + ".retro")
        state = json.loads(retro("info", "--json", path).stdout)
        assert state["sealed"] == (name != "killed"), f"{name}: {state}"
        p = retro("replay", "--json", *more, path)
        assert summary(p)["traps"] > 1000, f"{name}: {summary(p)}"


def test_amd_nested(folder):
    full_only()
    matrix("amd", "kvm_nested", 1800, without=INEXACT)


def test_amd_direct(folder):
    full_only()
    matrix("amd", "kvm_direct", 1800, without={"fpu": INEXACT["fpu"]})


def test_amd_direct_states(folder):
    full_only()
    inside("amd", "/test_kvm_engine -j1 --timeout 900",
           [(os.path.join(BUILD, "tests/unit/kvm/test_kvm_engine"), "/test_kvm_engine")], 1800)


def test_intel_recordings(folder):
    full_only()
    recordings("intel", "kvm-nested", ["real", "modes", "segments", "tasks", "paging", "smc", "debug",
                                       "clock", "spin", "system"], folder, 1800)


def test_intel_nested(folder):
    full_only()
    # In Bochs the software engines replay a quarter of a million instructions a second.
    matrix("intel", "kvm_nested", 3000, settings="RV_WORK=2 RV_ROUNDS=20")


def test_intel_direct(folder):
    full_only()
    matrix("intel", "kvm_direct", 3000, only=["real", "modes", "segments", "tasks"])


if __name__ == "__main__":
    retrotest.main()
