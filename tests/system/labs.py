"""The KVM engine on mainline kvm_amd and kvm_intel, in the labs of tests/lab: the suites that run
elsewhere run inside, and recordings made inside replay outside. RV_LABS=full runs all of it."""

import json
import os
import subprocess
import sys

import retrotest
from retrotest import BUILD, Skip, retro, summary

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
import lab  # noqa: E402

FULL = os.environ.get("RV_LABS") == "full"
RETRO = (os.path.join(BUILD, "retro"), "/tree/build/retro")
GUESTS = (os.path.join(BUILD, "tests", "guests"), "/tree/build/tests/guests")
SYSTEM = (HERE, "/tree/tests/system")
PYTHON = os.path.realpath(sys.executable)
IMAGES = "/tree/build/tests/guests"
# QEMU's software processor sets other x87 exception flags than a real one, which this guest sees.
INEXACT = "RV_WITHOUT=fpu"


def full_only():
    if not FULL:
        raise Skip("one of the long ones: RV_LABS=full runs it")


def inside(machine, command, inputs, limit, out=None):
    """Runs a command in a lab; returns what it printed."""
    console = []
    try:
        status = lab.run(machine, command, inputs, out, limit, console.append)
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


def matrix(machine, environment, limit):
    text = inside(machine, f"cd /tree && {environment} {PYTHON} tests/system/matrix.py kvm",
                  [RETRO, GUESTS, SYSTEM] + python_files("matrix"), limit)
    for line in text.splitlines():
        if line.startswith(("not run", "skipped")):
            print(f"  {machine} lab: {line}")
    assert " 0 skipped" in text, f"{machine} lab: something was skipped\n{text}"


def recordings(machine, names, folder, limit):
    """Recorded on hardware inside, replayed by the interpreter outside."""
    command = "cd /out" + "".join(
        f" && {RETRO[1]} record -e kvm --json -n 200M -o {n}.retro -k {IMAGES}/{n}.img"
        f" >{n}.console 2>{n}.summary" for n in names)
    inside(machine, command, [RETRO, GUESTS], limit, folder)
    for name in names:
        path = os.path.join(folder, name)
        p = retro("replay", "-e", "interpret", "--json", path + ".retro")
        with open(path + ".console", "rb") as f:
            assert p.stdout == f.read(), f"{name}: outside, it prints something else"
        with open(path + ".summary") as f:
            recorded = json.loads(f.read().splitlines()[-1])
        played = summary(p)
        for key in ("stop", "code", "ram_digest", "cpu_digest"):
            assert played[key] == recorded[key], f"{name}: {key}: {recorded} inside, {played} outside"


def test_amd_recordings_replay_here(folder):
    recordings("amd", ["real", "modes", "paging", "smc"], folder, 300)


def test_amd_doctor(folder):
    text = inside("amd", f"{RETRO[1]} doctor --json >/out/doctor", [RETRO], 120, folder)
    with open(os.path.join(folder, "doctor")) as f:
        found = json.load(f)
    assert found["kvm"]["engine_works"] and found["kvm"]["nested_svm"], f"{found}\n{text}"


def test_amd_matrix(folder):
    full_only()
    matrix("amd", INEXACT, 1800)


def test_amd_engine(folder):
    full_only()
    inside("amd", "/test_kvm_engine -j1 --timeout 900",
           [(os.path.join(BUILD, "tests/unit/kvm/test_kvm_engine"), "/test_kvm_engine")], 1800)


def test_intel_recordings_replay_here(folder):
    full_only()
    recordings("intel", ["real", "modes", "paging", "smc"], folder, 1800)


def test_intel_matrix(folder):
    full_only()
    matrix("intel", "RV_ONLY='real modes segments tasks'", 3000)


if __name__ == "__main__":
    retrotest.main()
