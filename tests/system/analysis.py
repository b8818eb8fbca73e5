"""What a recording says about its guest's own software, against what the guest said of itself (strace,
/proc, its own output) and against gdb at the same positions."""

import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import retrotest
from retrotest import RETRO, Skip, linux, retro

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "analysis_guest")


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"no {p} here")


def libraries(program):
    out = subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    return [w for l in out.splitlines() for w in l.split() if w.startswith("/")]


@functools.cache
def guest():
    """A folder with rec.retro, its console text, and the programs in it with their symbols."""
    need("gcc", "strace", "cpio", "ldd")
    kernel, initrd = linux()
    folder = os.environ.get("RV_ANALYSIS")
    if folder:  # one that an earlier run made
        return folder
    folder = tempfile.mkdtemp(prefix="retro-analysis-")
    if not os.environ.get("RV_KEEP"):
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = os.path.join(folder, "root")
    os.makedirs(os.path.join(root, "a"))
    for name, flags in (("sample", []), ("sample-static", ["-static", "-no-pie"])):
        full = os.path.join(folder, name)
        subprocess.run(["gcc", "-O1", "-g", "-fno-optimize-sibling-calls", *flags, "-o", full,
                        os.path.join(HERE, "sample.c")], check=True)
        subprocess.run(["strip", "-o", os.path.join(root, "a", name), full], check=True)
    shutil.copy(os.path.join(HERE, "init"), os.path.join(root, "a", "init"))
    strace = shutil.which("strace")
    for path in {os.path.realpath(strace): "/bin/strace",
                 **{l: l for p in (strace, os.path.join(folder, "sample")) for l in libraries(p)}}.items():
        to = root + path[1]
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(os.path.realpath(path[0]), to)
    # The kernel unpacks archives one after the other: this one adds to the guest's own.
    image = os.path.join(folder, "initrd")
    shutil.copy(initrd, image)
    with open(image, "ab") as f:
        f.write(b"\0" * (-os.path.getsize(image) % 4))
        f.flush()
        subprocess.run("find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet", shell=True,
                       cwd=root, stdout=f, check=True)
    trace = os.path.join(folder, "rec.retro")
    p = retro("record", "--memory", "512M", "-o", trace, "-k", kernel, "-i", image, "--append",
              "console=ttyS0 panic=-1 quiet rdinit=/a/init", timeout=300)
    with open(os.path.join(folder, "console"), "wb") as f:
        f.write(p.stdout)
    return folder


def trace():
    return os.path.join(guest(), "rec.retro")


def symbols(*names):
    return [x for n in names for x in ("--symbols", os.path.join(guest(), n))]


def said(section):
    """What the guest printed behind "== section"."""
    with open(os.path.join(guest(), "console"), "rb") as f:
        text = f.read().decode("latin-1").replace("\r", "")
    m = re.search(rf"^== {section}\n(.*?)(?=^== |\Z)", text, re.S | re.M)
    assert m, f"the guest did not get to {section}:\n{text}"
    return m[1]


def ask(*args, **kw):
    """Runs a command with --json and returns the object, or the objects of its lines."""
    out = retro(args[0], "--json", *args[1:], **kw).stdout.decode()
    return [json.loads(l) for l in out.splitlines()]


def ask_one(*args):
    return json.loads(retro(args[0], "--json", *args[1:]).stdout)


@functools.cache
def calls():
    return ask("syscalls", trace())


def sample_pid(section):
    return int(re.search(r"sample (\d+) counter", said(section))[1])


def counter(section):
    return int(re.search(r"counter (0x[0-9a-f]+)", said(section))[1], 16)


# ---- symbols ----

def test_kernel_symbols(folder):
    for line in said("kallsyms").splitlines():
        addr, kind, name = line.split()
        if int(addr, 16) < 1 << 32:
            continue  # per-CPU: an offset
        r = ask_one("mem", trace(), "kernel:" + name, 1)
        assert int(r["address"], 16) == int(addr, 16), f"{name}: {r}, the guest says {addr}"
    banner = retro("mem", "--raw", trace(), "linux_banner", 13).stdout
    assert banner == b"Linux version"


# ---- system calls ----

def strace_calls():
    """(pid, name, arguments, result) as strace in the guest wrote them; unfinished ones are joined."""
    waiting, out = {}, []
    for line in said("strace").splitlines():
        m = re.match(r"(\d+) +(.*)", line)
        if not m:
            continue
        pid, text = int(m[1]), m[2]
        if text.endswith("<unfinished ...>"):
            waiting[pid] = (len(out), text[:-len("<unfinished ...>")])
            out.append(None)
            continue
        r = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
        at = None
        if r:
            at, begun = waiting.pop(pid)
            text = begun.rstrip() + " " + r[1].lstrip()
        c = re.match(r"(\w+)\((.*)\) += (.*)", text)
        if c:
            one = (pid, c[1], c[2], c[3])
            if at is None:
                out.append(one)
            else:
                out[at] = one
    return [c for c in out if c]


def value(text):
    """A result as strace writes it, as a number."""
    m = re.match(r"(0x[0-9a-f]+|-?\d+|\?)", text)
    if m[1] == "?":
        return None
    n = int(m[1], 0)
    e = re.match(r"-1 (E\w+)", text)
    return e[1] if e else n


def test_syscalls_are_those_of_strace(folder):
    expected = strace_calls()
    assert len(expected) > 30, said("strace")
    exact = {"read", "write", "openat", "close", "mprotect", "access", "munmap", "brk", "exit_group",
             "getppid", "wait4", "lseek", "pread64", "newfstatat", "arch_prctl", "kill", "tgkill",
             "fcntl", "dup2", "prlimit64"}
    # Handling a signal that interrupts is shown where it happens in both; order within a process.
    compared = 0
    for pid in {c[0] for c in expected}:
        theirs = [c for c in expected if c[0] == pid]
        ours = [c for c in calls() if c["tid"] == pid]
        # strace's own child is there before its exec of the program.
        start = next((i for i, c in enumerate(ours) if c["name"] == theirs[0][1]
                      and (c["name"] != "execve" or "/a/sample" in c["text"])), 0)
        ours = ours[start:]
        names = [c["name"] for c in ours], [c[1] for c in theirs]
        assert names[0] == names[1], f"process {pid}: {names[0]} instead of {names[1]}"
        for a, b in zip(ours, theirs):
            want = value(b[3])
            got = a.get("errno", a.get("result"))
            assert want is None or got == want, f"{pid} {b}: result {got}"
            if b[1] in exact:
                theirs_text = re.sub(r",  +", ", ", b[2])  # where a call was split in two lines
                assert a["text"] == theirs_text, f"{pid} {b[1]}: {a['text']!r} instead of {b[2]!r}"
                compared += 1
    assert compared > 15, compared


def test_syscalls_times_and_filter(folder):
    pid = sample_pid("dynamic")
    only = ask("syscalls", "--process", pid, "--only", "getppid", trace())
    assert [c["name"] for c in only] == ["getppid"] * 2, only
    every = [c["position"] for c in calls()]
    assert every == sorted(every)
    for c in only:
        assert c["exit"] > c["position"] and c["exit_time"] >= c["time"]
        s = ask_one("state", "--at", f"syscall:{c['number']}", trace())
        assert s["position"] == c["position"] and s["process"]["pid"] == pid, s
        assert int(s["registers"]["rax"], 16) == 110, "RAX is not the number of getppid"


def test_jobs_do_not_matter(folder):
    for command in (["syscalls"], ["ps", "--all", "--threads"]):
        one = retro(*command, "--json", "--jobs", 1, trace()).stdout
        three = retro(*command, "--json", "--jobs", 3, trace()).stdout
        assert one and one == three, f"{command} depends on --jobs"


def test_interrupted_says_how_far_it_came(folder):
    p = subprocess.Popen([RETRO, "syscalls", "--jobs", "1", trace()], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and b"retro: interrupted" in err, (p.returncode, err)
    # What there is, is what a whole run says first.
    whole = retro("syscalls", trace()).stdout.splitlines()
    for a, b in zip(out.splitlines(), whole):
        assert a == b or b"= ?" in a, (a, b)


# ---- processes ----

def test_ps_knows_parents_and_ends(folder):
    tasks = {t["tid"]: t for t in ask("ps", "--all", "--threads", trace())}
    pid = sample_pid("dynamic")
    child, status = map(int, re.search(r"child (\d+) ended with (\d+)", said("dynamic")).groups())
    assert tasks[pid]["exit_code"] == 3 << 8, tasks[pid]
    assert tasks[pid]["exe"] == "/a/sample", tasks[pid]
    assert tasks[child]["parent"] == pid and tasks[child]["exit_code"] == status << 8, tasks[child]
    assert tasks[pid]["children"] == 1
    # Every instruction since the first task is somebody's.
    run = sum(t["instructions"] for t in tasks.values())
    end = ask_one("state", trace())["position"]
    first = min(t["start"] for t in tasks.values())
    assert run == end - first, (run, end, first)


def test_maps_and_stat(folder):
    pid = int(re.search(r"sleeper (\d+)", said("maps"))[1])
    theirs = []
    for line in said("maps").splitlines():
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ \d+ *(.*)", line)
        if m:
            theirs.append((int(m[1], 16), int(m[2], 16), m[3], int(m[4], 16) if m[5].startswith("/") else 0,
                           m[5] if m[5].startswith("/") else ""))
    assert len(theirs) > 5, said("maps")
    s = ask_one("state", "--at", "console:== procstat", "--process", pid, "--maps", trace())
    ours = [(int(m["start"], 16), int(m["end"], 16), m["prot"], m["offset"], m.get("path", ""))
            for m in s["maps"]]
    theirs = [t for t in theirs if t[0] < 1 << 47]
    assert ours == theirs, f"{ours}\ninstead of\n{theirs}"
    stat = said("procstat").split()
    assert s["process"]["pid"] == int(stat[0])
    assert f"({s['process']['comm']})" == stat[1]
    assert s["process"]["ppid"] == int(stat[3])
    # Its minor faults: page faults, and what the kernel faulted in for execve's arguments itself.
    faults = next(t["faults"] for t in ask("ps", trace()) if t["tid"] == pid)
    assert abs(faults - int(stat[9])) <= 4, (faults, stat[9])


# ---- call stacks ----

def stacks(section, *files):
    """Call stacks at the getppid() calls of the sample: function names, innermost first."""
    out = []
    for c in ask("syscalls", "--process", sample_pid(section), "--only", "getppid", trace()):
        s = ask_one("backtrace", "--at", c["position"], *symbols(*files), trace())
        out.append([f.get("symbol", "??") for f in s["backtrace"]])
    return out


def in_order(wanted, names):
    it = iter(names)
    return all(any(w == n for n in it) for w in wanted)


def test_backtrace_of_programs(folder):
    for section, file in (("dynamic", "sample"), ("static", "sample-static")):
        sort, signal = stacks(section, file)
        assert in_order(["entry_SYSCALL_64", "getppid", "here", "compare", "order", "main"], sort), \
            f"{section}: {sort}"
        assert "_start" == sort[-1], f"{section}: {sort}"
        assert in_order(["entry_SYSCALL_64", "getppid", "here", "on_signal", "alarm_me", "main"],
                        signal), f"{section}: {signal}"


def test_backtrace_in_kernel_and_interrupt(folder):
    at = ask("query", "executions", "--limit", 1, "--from", "console:== strace", trace(),
             "__sysvec_apic_timer_interrupt")[0]["position"]
    names = [f.get("symbol", "??") for f in ask_one("backtrace", "--at", at, trace())["backtrace"]]
    assert in_order(["__sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt",
                     "asm_sysvec_apic_timer_interrupt"], names), names
    # A process that sleeps, in the kernel and on into the program.
    pid = int(re.search(r"sleeper (\d+)", said("maps"))[1])
    s = ask_one("backtrace", "--at", "console:== procstat", "--process", pid, trace())
    names = [f.get("symbol", "??") for f in s["backtrace"]]
    assert in_order(["__schedule", "schedule", "do_nanosleep", "do_syscall_64"], names), names
    assert s["backtrace"][-1]["user"]


def test_backtrace_agrees_with_gdb(folder):
    need("gdb")
    pid = sample_pid("static")
    c = ask("syscalls", "--process", pid, "--only", "getppid", trace())[0]
    # Where the call returns to, so that gdb begins in the program.
    r = ask("query", "executions", "--process", pid, "--limit", 1, "--from", c["exit"],
            trace(), c["rip"])[0]["position"]
    ours = ask_one("state", "--at", r, *symbols("sample-static"), trace())
    p = subprocess.run([RETRO, "gdb", "--symbols", os.path.join(guest(), "sample-static"), "--at",
                        str(r), trace(), "-batch", "-ex", "bt", "-ex", "info registers"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                       stdin=subprocess.DEVNULL).stdout.decode()
    theirs = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+)", p, re.M)
    names = [f["symbol"].split(".")[0] for f in ours["backtrace"]]
    assert len(theirs) > 4 and names[:len(theirs)] == theirs, f"{names} instead of {theirs}\n{p}"
    for name in ("rax", "rbx", "rsp", "rbp", "rip", "r12", "r13", "cr3"):
        m = re.search(rf"^{name} +(0x[0-9a-f]+)", p, re.M)
        assert m and int(m[1], 16) == int(ours["registers"][name], 16), f"{name}: {p}"


# ---- queries ----

def test_writes_are_all_there(folder):
    for section, file in (("dynamic", "sample"), ("static", "sample-static")):
        pid, at = sample_pid(section), counter(section)
        hits = ask("query", "writes", *symbols(file), "--process", pid, trace(), f"{at}+8")
        mine = [h for h in hits if h["user"] and h["size"] == 8]
        assert len(mine) == 1000, len(mine)
        total = 0
        for i, h in enumerate(mine):
            total += i
            assert int.from_bytes(bytes.fromhex(h["bytes"].replace(" ", "")), "little") == total, h
        last = ask_one("query", "last-write", *symbols(file), "--process", pid, trace(), "counter")
        assert last["position"] == mine[-1]["position"], last
        assert last["backtrace"][0]["symbol"] == "count_up", last
        first = ask_one("query", "next-write", *symbols(file), "--process", pid, "--at",
                        mine[4]["position"], trace(), f"{at}+8")
        assert first["position"] in (mine[4]["position"], mine[5]["position"]), first


def test_queries_agree_between_engines(folder):
    span = ["--from", "console:== strace", "--to", "console:== maps"]
    want = ["query", "writes", *span, trace(), "jiffies_64"]
    a, b = ask(*want), ask(want[0], "--engine", "interpret", "--jobs", 1, *want[1:])
    assert a and a == b, f"{len(a)} and {len(b)} writes"


def test_calls_with_arguments_and_results(folder):
    pid = sample_pid("static")
    (c,) = ask("query", "calls", *symbols("sample-static"), "--process", pid, trace(), "count_up")
    assert c["args"] == 'rounds=1000, why="because"', c
    assert int(c["result"], 16) & 0xffffffff == 1007, c
    # The kernel, declared by its BTF: what write() was called with is what strace would say.
    writes = [x for x in calls() if x["pid"] == pid and x["name"] == "write"]
    k = ask("query", "calls", "--process", pid, trace(), "ksys_write")
    assert len(k) == len(writes), (len(k), len(writes))
    for x, y in zip(k, writes):
        assert x["args"].startswith(f"fd={int(y['args'][0], 16)}, buf=") and \
            x["args"].endswith(f"count={int(y['args'][2], 16)}"), x
        assert int(x["result"], 16) == y["result"], (x, y)
    named = [x for x in calls() if x["pid"] == pid and x["name"] == "getppid"]
    g = ask("query", "executions", "--process", pid, trace(), "__do_sys_getppid")
    if not g:
        g = ask("query", "executions", "--process", pid, trace(), "__x64_sys_getppid")
    assert len(g) == len(named)


def test_find_says_who_wrote(folder):
    # What strace wrote stays in the file that it wrote to.
    text = re.search(r'write\(1, "sample \d+ counter', said("strace"))[0]
    found = ask("find", "--limit", 30, "--text", trace(), text)
    assert "strace" in {f["process"]["comm"] for f in found}, found
    for f in found:
        raw = retro("mem", "--raw", "--physical", "--at", f["position"] + 1, trace(), f["physical"],
                    len(text)).stdout.decode("latin-1")
        assert raw == text, (f, raw)


# ---- positions and mistakes ----

def test_positions(folder):
    end = ask_one("state", trace())["position"]
    half = ask_one("state", "--at", "50%", trace())["position"]
    assert abs(half * 2 - end) <= 1
    assert ask_one("state", "--at", "0.5", trace())["position"] == half
    assert ask_one("state", "--at", f"{half:,}", trace())["position"] == half
    assert ask_one("state", "--at", "1.5M", trace())["position"] == 1500000
    events = [json.loads(l) for l in retro("events", "--json", trace()).stdout.splitlines()]
    n = next(i for i, e in enumerate(events) if e["position"] > 0)
    assert ask_one("state", "--at", f"event:{n}", trace())["position"] == events[n]["position"]
    at = ask_one("state", "--at", "console:== static", trace())["position"]
    printed = retro("console", "--at", at, trace()).stdout
    assert printed.endswith(b"== static"), printed[-40:]


def test_mistakes_are_explained(folder):
    t = trace()
    for status, text, *args in (
            (2, "beyond the end", "state", "--at", "99G", t),
            (2, "is not a position", "state", "--at", "tomorrow", t),
            (2, "never printed", "state", "--at", "console:no such text", t),
            (2, "fewer events", "state", "--at", "event:999999", t),
            (2, "fewer system calls", "state", "--at", "syscall:99999999", t),
            (2, "no symbol", "mem", t, "no_such_symbol"),
            (2, "is not mapped", "mem", t, "0x10"),
            (2, "is not RAM", "mem", "--physical", t, "0xf000000000"),
            (2, "no process 4000000", "mem", "--process", "4000000", t, "0x10"),
            (2, "not in memory", "query", "writes", t, "0x10"),
            (2, "none of last-write", "query", "last", t, "0x10"),
            (2, "takes a trace and bytes", "find", t),
            (2, "neither hexadecimal", "find", t, "xyz"),
            (3, "cannot open", "state", "--symbols", "/no/such/file", t),
            (4, "no symbols", "state", "--symbols", os.path.join(guest(), "root", "a", "sample-static"), t),
            (3, "", "state", "/no/such/trace")):
        p = retro(*args, status=status)
        err = p.stderr.decode()
        assert err.startswith("retro: ") and text in err and not p.stdout, (args, err)


def test_a_guest_that_is_no_linux(folder):
    guests = os.path.join(retrotest.BUILD, "tests", "guests")
    name = os.path.join(guests, "debug.img")
    if not os.path.exists(name):
        raise Skip("no small guests were built")
    t = os.path.join(folder, "small.retro")
    retro("record", "--kind", "flat", "-o", t, "-k", name)
    assert "rip" in ask_one("state", t)["registers"]
    p = retro("ps", t, status=6)
    assert b"not recognised" in p.stderr


if __name__ == "__main__":
    retrotest.main()
