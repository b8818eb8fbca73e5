"""Recordings on two engines at once: translator and interpreter agree at every position compared.

RV_LOCKSTEP_EVERY chooses the distances for the small guests; RV_LOCKSTEP_TO how much of the Debian
guest's boot is compared (default 300M instructions; "end" for all of it)."""

import json
import os
import subprocess

import matrix
import retrotest
from retrotest import linux, retro

EVERY = os.environ.get("RV_LOCKSTEP_EVERY", "97 1000").split()
TO = os.environ.get("RV_LOCKSTEP_TO", "300M")


def agrees(*args):
    p = retro("lockstep", "--quiet", *args, timeout=3600)
    assert p.stdout.startswith(b"interpret and translate agree"), p.stdout.decode()
    return p.stdout


def test_small_guests(folder):
    if why := matrix.engine_works("translate"):
        raise retrotest.Skip(why)
    for name, args, _ in matrix.cases():
        trace = os.path.join(folder, "t.retro")
        matrix.record("interpret", trace, args, ["--force"])
        for every in EVERY:
            agrees("--eager", "--every", every, trace)


def test_debian_boot(folder):
    if why := matrix.engine_works("translate"):
        raise retrotest.Skip(why)
    kernel, initrd = linux()
    trace = os.path.join(folder, "boot.retro")
    retro("record", "-q", "-o", trace, "-k", kernel, "-i", initrd,
          "--append", "console=ttyS0 quiet panic=-1 work=2")
    agrees("--to", TO, trace)


def test_for_machines(folder):
    if why := matrix.engine_works("translate"):
        raise retrotest.Skip(why)
    trace = os.path.join(folder, "t.retro")
    _, recorded = matrix.record("interpret", trace, ["-k", matrix.image("real")])
    said = json.loads(retro("lockstep", "--json", "--every", "1000", trace).stdout)
    n = recorded["instructions"]
    assert said == {"agree": True, "engines": ["interpret", "translate"], "instructions": n,
                    "compared": said["compared"]}, said
    assert n // 1000 <= said["compared"] <= n // 1000 + 2, said


def test_shows_the_first_difference(folder):
    """With a translator that goes wrong somewhere behind an instruction (astray.c): what is reported is
    the first place, by what the same two engines say of the places around it."""
    if why := matrix.engine_works("translate"):
        raise retrotest.Skip(why)
    astray = os.path.join(retrotest.BUILD, "tests", "system", "retro-astray")
    trace = os.path.join(folder, "t.retro")
    _, recorded = matrix.record("interpret", trace, ["-k", matrix.image("work"), "-a", matrix.WORK])
    end = recorded["instructions"]
    env = dict(os.environ, RV_ASTRAY_FROM=str(end // 2))

    def run(*args):
        p = subprocess.run([astray, "lockstep", "-q", *args, trace], env=env, capture_output=True,
                           timeout=600)
        assert not p.stderr, p.stderr.decode()
        return p.returncode, p.stdout.decode()

    status, text = run("--json", "--every", "1000")
    said = json.loads(text)
    at = said["instructions"]
    assert status == 5 and not said["agree"] and end // 2 <= at < end, said
    assert run("--to", str(at - 1))[0] == 0 and run("--to", str(at))[0] == 5, said
    difference, = said["differences"]
    good, bad = (value.split() for value in difference["values"])
    assert difference["field"] == "gpr" and good[:15] == bad[:15], difference
    assert int(good[15], 16) ^ int(bad[15], 16) == 1, difference
    assert "ram" not in said and "stops" not in said, said
    assert int(said["before"]["icount"], 16) == at - 1, said
    state = json.loads(retro("state", "--json", "--at", at - 1, trace).stdout)
    assert int(said["before"]["rip"], 16) == int(state["registers"]["rip"], 16), (said, state)
    assert said["instruction"] == state["code"][0]["text"], (said, state)

    status, text = run("--every", "1000")
    assert status == 5 and text.startswith(f"interpret and translate differ at instruction {at}:"), text
    assert f"{said['instruction']}\ncpu.icount = {at - 1:016x}" in text, text


def test_says_what_it_cannot_do(folder):
    missing = os.path.join(folder, "missing.retro")
    assert b"retro: " in retro("lockstep", missing, status=3).stderr
    assert b"not two names" in retro("lockstep", "--engines", "kvm", missing, status=2).stderr
    assert b"no engine" in retro("lockstep", "--engines", "a,b", missing, status=2).stderr


if __name__ == "__main__":
    retrotest.main()
