"""Counting analyses - profile, coverage, calls - plugins and marks: against each other, the
interpreter, and what the guest's programs do by construction."""

import json
import os
import shutil
import subprocess

import retrotest
from retrotest import BUILD, GUEST, Skip, info, linux, retro

HERE = os.path.dirname(os.path.abspath(__file__))
POSTINGS = 300000  # of tools/demo/ledger.c, each one call of post() and of note()


def lines_of(p):
    return [json.loads(l) for l in p.stdout.decode().splitlines()]


def small(name):
    image = os.path.join(BUILD, "tests", "guests", name + ".img")
    if not os.path.exists(image):
        raise Skip("the small guests are not built")
    return image


def crash(folder):
    """A recording of the Debian guest with the planted bug, shared by the tests."""
    if crash.trace and os.path.exists(crash.trace):
        return crash.trace
    kernel, initrd = linux()
    crash.trace = os.path.join(os.path.dirname(folder), f"profile-{os.getpid()}.retro")
    retro("record", "-q", "-f", "-o", crash.trace, "-k", kernel, "-i", initrd, "-a",
          "console=ttyS0 panic=-1 quiet mode=ledger")
    return crash.trace


crash.trace = None


def ledger(trace):
    """Number of the ledger's process."""
    found = [t["pid"] for t in lines_of(retro("ps", "--json", trace)) if t["comm"] == "ledger"]
    assert len(found) == 1, found
    return found[0]


def symbols():
    return os.path.join(GUEST, "ledger")


# ---- profile ----

def test_profile_adds_up(folder):
    trace = crash(folder)
    length = info(trace)["instructions"]
    rows = lines_of(retro("profile", "--json", trace))
    assert rows[-1]["total"] == length == rows[-1]["upto"]
    assert sum(r["instructions"] for r in rows[:-1]) == length
    by_pid = {}
    for r in rows[:-1]:
        by_pid[r["pid"]] = by_pid.get(r["pid"], 0) + r["instructions"]
    processes = lines_of(retro("ps", "--json", "--all", trace))
    for p in processes:
        if p["pid"] == p["tid"] and p["pid"]:
            assert by_pid.get(p["pid"], 0) == p["instructions"], (p, by_pid.get(p["pid"]))


def test_profile_is_the_same_on_one_job_and_by_the_interpreter(folder):
    """Different pieces, and the engine that counts one block at a time."""
    trace = crash(folder)
    end = info(trace)["instructions"]
    part = ["--from", end * 9 // 10, "--to", end * 95 // 100]
    key = lambda r: (r.get("pid"), r.get("comm"), r.get("function"), r.get("module"), r.get("user"))
    want = sorted(lines_of(retro("profile", "--json", "-j", 1, *part, trace))[:-1], key=str)
    for how in (["-j", 4], ["-e", "interpret"]):
        got = sorted(lines_of(retro("profile", "--json", *how, *part, trace))[:-1], key=str)
        assert sum(r["instructions"] for r in got) == end * 95 // 100 - end * 9 // 10
        assert {key(r): r["instructions"] for r in got} == {key(r): r["instructions"] for r in want}


def test_profile_of_a_program(folder):
    trace = crash(folder)
    rows = lines_of(retro("profile", "--json", "--process", ledger(trace), "--symbols", symbols(), trace))
    names = {r["function"]: r for r in rows[:-1] if r["module"] == "/bin/ledger"}
    for name in ("main", "post", "note"):
        assert names[name]["user"] and names[name]["instructions"] > POSTINGS, names.get(name)
    folded = retro("profile", "--folded", trace).stdout.decode().splitlines()
    assert sum(int(l.rsplit(" ", 1)[1]) for l in folded) == info(trace)["instructions"]
    assert any(l.startswith("swapper") and ";[kernel];start_kernel " in l for l in folded)


def test_profile_without_linux(folder):
    trace = os.path.join(folder, "t.retro")
    retro("record", "-q", "-o", trace, "-k", small("steps"))
    elf = small("steps")
    rows = lines_of(retro("profile", "--json", "--symbols", elf, trace))
    assert sum(r["instructions"] for r in rows[:-1]) == info(trace)["instructions"]
    assert "main" in {r["function"] for r in rows[:-1]}
    bare = lines_of(retro("profile", "--json", trace))
    assert bare[-1]["total"] == info(trace)["instructions"]
    assert {r["module"] for r in bare[:-1]} == {"[guest]"}


def test_flame_graph(folder):
    """Well-formed XML whose frames lie within those they stand on, and which needs nothing else."""
    import xml.etree.ElementTree as ET
    trace = os.path.join(folder, "t.retro")
    svg = os.path.join(folder, "t.svg")
    retro("record", "-q", "-o", trace, "-k", small("steps"))
    elf = small("steps")
    for command in ("profile", "calls"):
        retro(command, "-q", "--symbols", elf, "--svg", svg, trace)
        text = open(svg).read()
        frames = [g for g in ET.fromstring(text).iter() if g.get("class") == "f"]
        assert float(frames[0].get("data-w")) == 1 and len(frames) > 3
        for f in frames:
            assert float(f.get("data-x")) + float(f.get("data-w")) <= 1 + 1e-6
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


# ---- coverage ----

def test_coverage_of_lines(folder):
    trace = crash(folder)
    p = retro("coverage", "--symbols", symbols(), trace)
    records = {}
    for line in p.stdout.decode().splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            source = records.setdefault(value, {"DA": {}, "FNDA": {}})
        elif key == "DA":
            number, times = value.split(",")
            source["DA"][int(number)] = int(times)
        elif key == "FNDA":
            times, name = value.split(",", 1)
            source["FNDA"][name] = int(times)
    found = [r for name, r in records.items() if name.endswith("demo/ledger.c")]
    assert len(found) == 1, list(records)[:5]
    assert found[0]["FNDA"]["post"] == found[0]["FNDA"]["note"] == POSTINGS
    assert found[0]["FNDA"]["main"] == 1
    # The same numbers for the lines, by what stands in them.
    text = open(os.path.join(HERE, "..", "..", "tools", "demo", "ledger.c")).read().splitlines()
    for number, times in found[0]["DA"].items():
        if "accounts[from].balance -=" in text[number - 1]:
            assert times == POSTINGS, (number, times)
    if shutil.which("genhtml"):
        tracefile = os.path.join(folder, "l.info")
        open(tracefile, "wb").write(p.stdout)
        subprocess.run(["lcov", "--summary", tracefile], check=True, capture_output=True)


def test_coverage_of_the_kernel(folder):
    trace = crash(folder)
    run = {}
    for line in retro("coverage", trace).stdout.decode().splitlines():
        if line.startswith("FNDA:"):
            times, name = line[5:].split(",", 1)
            run[name] = int(times)
    calls = len(lines_of(retro("syscalls", "--json", trace)))
    assert run["start_kernel"] == 1
    assert run["entry_SYSCALL_64"] == calls, (run["entry_SYSCALL_64"], calls)
    assert run["panic"] == 0


def test_coverage_needs_to_know_whose(folder):
    trace = os.path.join(folder, "t.retro")
    retro("record", "-q", "-o", trace, "-k", small("steps"))
    p = retro("coverage", trace, status=2)
    assert b"--symbols" in p.stderr


# ---- calls ----

def test_calls_add_up_and_agree_with_the_profile(folder):
    """Two ways of counting that share nothing: calls that are followed, blocks that are counted."""
    trace = crash(folder)
    pid = ledger(trace)
    tree = lines_of(retro("calls", "--json", "--process", pid, "--symbols", symbols(), trace))
    profile = lines_of(retro("profile", "--json", "--process", pid, "--symbols", symbols(), trace))
    assert sum(n["own"] for n in tree) == profile[-1]["total"]
    own = {}
    for n in tree:
        own[n["name"], n["module"]] = own.get((n["name"], n["module"]), 0) + n["own"]
    for name in ("main", "post", "note"):
        counted = [r for r in profile[:-1] if r["function"] == name and r["module"] == "/bin/ledger"]
        assert own[name, "/bin/ledger"] == counted[0]["instructions"], name
    by_node = {n["node"]: n for n in tree}
    note = [n for n in tree if n["name"] == "note"]
    assert len(note) == 1 and note[0]["calls"] == POSTINGS
    path = []
    n = note[0]
    while n:
        path.append(n["name"])
        n = by_node.get(n["in"])
    assert path[:3] == ["note", "post", "main"], path


def test_calls_of_a_whole_boot_add_up(folder):
    trace = crash(folder)
    tree = lines_of(retro("calls", "--json", trace))
    assert sum(n["own"] for n in tree) == info(trace)["instructions"]
    inner = {}
    for n in tree:
        inner[n["in"]] = inner.get(n["in"], 0) + n["instructions"]
    for n in tree:
        assert n["instructions"] == n["own"] + inner.get(n["node"], 0), n
    folded = retro("calls", "--folded", trace).stdout.decode().splitlines()
    assert sum(int(l.rsplit(" ", 1)[1]) for l in folded) == info(trace)["instructions"]


def test_calls_of_a_range(folder):
    trace = crash(folder)
    tree = lines_of(retro("calls", "--json", "--from", "60%", "--to", "61%", trace))
    end = info(trace)["instructions"]
    assert abs(sum(n["own"] for n in tree) - end // 100) <= 2
    p = retro("calls", "--from", 10, "--to", 5, trace, status=2)
    assert b"nothing between" in p.stderr


# ---- plugins ----

def plugins(folder):
    """Installs Retrovisor and builds its example plugins outside the tree, as a user would."""
    prefix = os.path.join(folder, "installed")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)
    pc = subprocess.run(["find", prefix, "-name", "retrovisor.pc"], check=True, capture_output=True)
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc.stdout.decode().strip()))
    flags = subprocess.run(["pkg-config", "--cflags", "retrovisor"], check=True, capture_output=True,
                           env=env).stdout.decode().split()
    examples = os.path.join(prefix, "share", "doc", "retrovisor", "examples")
    built = {}
    for name in ("counter", "coverage"):
        built[name] = os.path.join(folder, name + ".so")
        compile_plugin(built[name], os.path.join(examples, name + ".c"), flags)
    return built, flags


def compile_plugin(out, source, flags):
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", *flags,
                    "-o", out, source], check=True, capture_output=True)


def test_example_plugins(folder):
    trace = crash(folder)
    built, _ = plugins(folder)
    last = lambda p: p.stdout.decode().splitlines()[-1]
    calls = lines_of(retro("syscalls", "--json", trace))
    shown = retro("analyze", "--plugin", built["counter"], trace).stdout.decode().splitlines()
    assert shown[-1].startswith(f"{len(calls)} system calls, "), shown[-1]
    pid = ledger(trace)
    calls = lines_of(retro("syscalls", "--json", "--process", pid, trace))
    one = retro("analyze", "--plugin", f"{built['counter']},process={pid}", trace)
    assert last(one).startswith(f"{len(calls)} system calls, "), last(one)
    pages = last(retro("analyze", "--plugin", built["coverage"], trace))
    assert pages.startswith(f"{info(trace)['instructions']} instructions in "), pages
    user = sum(r["instructions"] for r in lines_of(retro("profile", "--json", trace))[:-1] if r["user"])
    pages = last(retro("analyze", "--plugin", built["coverage"] + ",user", trace))
    assert pages.startswith(f"{user} instructions in "), pages


WATCHER = r"""
#include <retrovisor/plugin.h>
#include <inttypes.h>
#include <stdio.h>
static uint64_t last, n, wrong;
static int start(const struct retrovisor_api *api, struct retrovisor_host *h,
                 const struct retrovisor_argument *a, size_t arguments, void **self) {
    struct retrovisor_filter f = {.size = sizeof f, .kind = KIND, .first = FIRST, .last = LAST,
                                  .access = ACCESS};
    (void)a, (void)arguments, (void)self;
    return api->show(h, &f);
}
static void event(void *self, void *piece, struct retrovisor_guest *g, const struct retrovisor_event *e) {
    (void)self, (void)piece, (void)g;
    if (e->position < last) wrong++;
    last = e->position;
    n++;
}
static int finish(void *self, int whole) {
    (void)self;
    printf("%" PRIu64 " %" PRIu64 " %d\n", n, wrong, whole);
    return 0;
}
static const struct retrovisor_plugin plugin = {
    .size = sizeof plugin, .version = VERSION, .name = "watcher", .flags = RETROVISOR_IN_ORDER,
    .start = start, .event = event, .finish = finish};
const struct retrovisor_plugin *retrovisor_plugin(uint32_t v) { (void)v; return &plugin; }
"""


def watcher(folder, flags, name, kind="RETROVISOR_INSTRUCTION", first="0", last="UINT64_MAX", access=0,
            version="RETROVISOR_PLUGIN_VERSION"):
    source = os.path.join(folder, name + ".c")
    with open(source, "w") as f:
        f.write(WATCHER)
    out = os.path.join(folder, name + ".so")
    compile_plugin(out, source, [*flags, f"-DKIND={kind}", f"-DFIRST={first}", f"-DLAST={last}",
                                 f"-DACCESS={access}", f"-DVERSION={version}"])
    return out


def test_a_plugin_in_order(folder):
    """Every instruction once, one after the other; and writes as retro query has them."""
    _, flags = plugins(folder)
    trace = os.path.join(folder, "t.retro")
    retro("record", "-q", "-o", trace, "-k", small("fpu"))
    n, wrong, whole = retro("analyze", "--plugin", watcher(folder, flags, "all"),
                            trace).stdout.split()
    # An instruction that faults is about to run more than once.
    assert int(wrong) == 0 and int(whole) == 1
    assert info(trace)["instructions"] <= int(n) <= info(trace)["instructions"] * 1.05


def test_bad_plugins(folder):
    _, flags = plugins(folder)
    trace = os.path.join(folder, "t.retro")
    retro("record", "-q", "-o", trace, "-k", small("steps"))
    old = watcher(folder, flags, "old", version=99)
    cases = [(old, b"version 99"), (os.path.join(folder, "none.so"), b"cannot load"),
             (trace, b"cannot load"), (shutil.which("true"), b""),
             (watcher(folder, flags, "back", first="5", last="4"), b"range ends before"),
             (watcher(folder, flags, "no", kind="99"), b"no kind"),
             (watcher(folder, flags, "mem", kind="RETROVISOR_MEMORY"), b"neither reading nor writing")]
    for path, text in cases:
        p = retro("analyze", "--plugin", path, trace, status=2)
        assert p.stderr.startswith(b"retro: ") and text in p.stderr, (path, p.stderr)
    with open(os.path.join(folder, "empty.c"), "w") as f:
        f.write("int nothing;\n")
    compile_plugin(os.path.join(folder, "empty.so"), os.path.join(folder, "empty.c"), [])
    p = retro("analyze", "--plugin", os.path.join(folder, "empty.so"), trace, status=2)
    assert b"is no plugin" in p.stderr
    assert b"--plugin" in retro("analyze", trace, status=2).stderr


# ---- marks ----

def test_marks_of_the_debian_guest(folder):
    trace = crash(folder)
    marks = lines_of(retro("events", "--json", "--kind", "mark", trace))
    if not marks:
        raise Skip("the guest's image is from before marks; run tools/guest")
    assert [m["data"] for m in marks] == ["mode ledger"]
    shown = retro("state", "--json", "--at", "mark:mode ledger", trace).stdout.decode()
    assert str(marks[0]["position"]) in shown.replace(",", "")
    assert retrotest.replays(trace)


if __name__ == "__main__":
    try:
        retrotest.main()
    finally:
        for end in ("", ".index"):
            if crash.trace and os.path.exists(crash.trace + end):
                os.remove(crash.trace + end)
