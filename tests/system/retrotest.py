"""What the system tests share: where things are, running retro, and counting results.

Each test is a function named test_*; a module ends with `retrotest.main()`. Results print one a line
and a closing line "N passed, N failed, N skipped". A failed test keeps its files and says where."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

BUILD = os.environ.get("RV_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
RETRO = os.environ.get("RETRO", os.path.join(BUILD, "retro"))
GUEST = os.environ.get("RV_GUEST")  # directory with vmlinuz and initrd.gz, made by tools/guest
SEED = int(os.environ.get("RV_SEED", "1"))


class Skip(Exception):
    """Raised by a test that cannot run here; the text says why."""


def linux():
    """(kernel, initrd) of the Debian guest, or Skip."""
    if not GUEST or not os.path.exists(os.path.join(GUEST, "vmlinuz")):
        raise Skip("no Debian guest: run tools/guest and set RV_GUEST")
    return os.path.join(GUEST, "vmlinuz"), os.path.join(GUEST, "initrd.gz")


def retro(*args, status=0, timeout=600, **kw):
    """Runs retro, expects an exit status (None: any), returns the completed process. A status below
    zero is a crash and always fails."""
    p = subprocess.run([RETRO, *map(str, args)], stdin=kw.pop("stdin", subprocess.DEVNULL),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
    shown = "retro " + " ".join(map(str, args))
    assert p.returncode >= 0 and "Sanitizer" not in p.stderr.decode(errors="replace"), \
        f"{shown}: died with {p.returncode}\n{p.stderr.decode(errors='replace')[-3000:]}"
    if status is not None:
        assert p.returncode == status, \
            f"{shown}: exit status {p.returncode} instead of {status}\n" \
            f"{p.stderr.decode(errors='replace')[-2000:]}"
    return p


def summary(p):
    """The JSON summary that run, record and replay print last on standard error."""
    lines = [l for l in p.stderr.decode().splitlines() if l.startswith("{")]
    assert lines, "no summary on standard error:\n" + p.stderr.decode()
    return json.loads(lines[-1])


def info(trace, status=0):
    return json.loads(retro("info", "--json", trace, status=status).stdout)


def replays(trace, console=None, times=1):
    """Replays a trace; checks the console and that digests repeat. Returns the last summary."""
    last = None
    for _ in range(times):
        p = retro("replay", "--json", trace)
        s = summary(p)
        if console is not None:
            assert p.stdout == console, f"{trace}: replay printed something else than the recording"
        if last:
            for key in ("instructions", "guest_ns", "cpu_digest", "ram_digest"):
                assert s[key] == last[key], f"{trace}: two replays differ in {key}"
        last = s
    return last


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    wanted = sys.argv[1:]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, test in tests:
        if wanted and not any(w in name for w in wanted):
            continue
        label = os.path.basename(module.__file__)[:-3] + "." + name[5:]
        folder = tempfile.mkdtemp(prefix="retro-test-")
        try:
            test(folder)
            result, note = "passed", ""
        except Skip as e:
            result, note = "skipped", ": " + str(e)
        except Exception as e:  # a test may fail in any way
            kind = "" if isinstance(e, AssertionError) else traceback.format_exc()
            result, note = "failed", f": {e}\n{kind}  files kept in {folder}"
        counts[result] += 1
        if result != "failed":
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{result}: {label}{note}", flush=True)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    sys.exit(1 if counts["failed"] else 0)
