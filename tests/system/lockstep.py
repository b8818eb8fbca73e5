"""Recordings on two engines at once: translator and interpreter agree at every position compared.

RV_LOCKSTEP_EVERY chooses the distances for the small guests; RV_LOCKSTEP_TO how much of the Debian
guest's boot is compared (default 300M instructions; "end" for all of it)."""

import os

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


def test_says_what_it_cannot_do(folder):
    missing = os.path.join(folder, "missing.retro")
    assert b"retro: " in retro("lockstep", missing, status=3).stderr
    assert b"not two names" in retro("lockstep", "--engines", "kvm", missing, status=2).stderr
    assert b"no engine" in retro("lockstep", "--engines", "a,b", missing, status=2).stderr


if __name__ == "__main__":
    retrotest.main()
