"""retro gdb, with the real gdb and with clients that are none: moving both ways, breakpoints,
watchpoints, both ends of history, monitor commands, branches, Ctrl-C, garbage on the port."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time

import retrotest
from retrotest import BUILD, RETRO, SEED, Skip, linux, retro, summary

GUESTS = os.path.join(BUILD, "tests", "guests")
SOURCE = os.path.join(os.path.dirname(__file__), "..", "guests", "steps.c")
GDB = shutil.which("gdb")


def line(mark):
    """Number of the line of steps.c that carries a mark."""
    with open(SOURCE) as f:
        return next(n for n, text in enumerate(f, 1) if f"MARK: {mark} " in text)


def record(folder, rounds=100, guest="steps"):
    trace = os.path.join(folder, guest + ".retro")
    if not os.path.exists(trace):
        retro("record", "-q", "-o", trace, "-k", os.path.join(GUESTS, guest + ".img"),
              "-a", str(rounds))
    return trace


PRELUDE = """
import gdb, re
gdb.execute("set pagination off")
gdb.execute("set width 0")
def run(text):
    return gdb.execute(text, to_string=True)
def reg(name):
    return int(gdb.parse_and_eval("$" + name)) & 0xffffffffffffffff
def value(text):
    return int(gdb.parse_and_eval(text))
def when():
    return int(re.search(r"position ([0-9,]+)", run("monitor when")).group(1).replace(",", ""))
def here():
    return gdb.selected_frame().find_sal().line
def fails(text):
    try:
        run(text)
    except gdb.error as e:
        return str(e)
    raise AssertionError(text + " did not fail")
"""


def gdb(trace, script, *options, timeout=120, args=()):
    """Runs a Python script in gdb on the trace; it has passed when it gets to its end."""
    if not GDB:
        raise Skip("no gdb")
    path = trace + ".py"
    with open(path, "w") as f:
        f.write(PRELUDE + script + "\nprint('ALL' + ' WELL')\n")
    p = subprocess.run([RETRO, "gdb", *options, trace, "-batch", "-nx", *args, "-x", path],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=timeout)
    text = p.stdout.decode(errors="replace")
    assert "ALL WELL" in text and "Sanitizer" not in text, text[-4000:]
    return text


def test_steps_both_ways(folder):
    """The shape of QEMU's reverse_debugging test: ten steps, ten back through the same addresses, then
    breakpoints on all of them and back to the last."""
    gdb(record(folder), """
run("monitor seek 50000")
run("maintenance flush register-cache")
steps = [reg("rip")]
for _ in range(10):
    run("stepi")
    steps.append(reg("rip"))
for at in reversed(steps[:-1]):
    run("reverse-stepi")
    assert reg("rip") == at, (hex(reg("rip")), hex(at))
assert when() == 50000
for at in steps:
    run("stepi")
for at in set(steps[:-1]):
    gdb.Breakpoint("*%d" % at)
run("reverse-continue")
last = reg("rip")
assert last in steps
""")


def test_source_level(folder):
    gdb(record(folder), f"""
run("break main")
run("continue")
first = when()
lines = []
for _ in range(8):
    lines.append(here())
    run("next")
for expected in reversed(lines):
    run("reverse-next")
    assert here() == expected, (here(), expected)
run("break add if a == 5 && b == 3")
run("continue")
assert value("a") == 5 and value("b") == 3
assert [f for f in ("fibonacci", "main") if f in run("backtrace")] == ["fibonacci", "main"]
inside = when()
run("reverse-finish")
assert gdb.selected_frame().name() == "fibonacci"
run("step")
assert when() <= inside and gdb.selected_frame().name() == "add", run("bt")
run("finish")
assert gdb.selected_frame().name() == "fibonacci"
run("reverse-step")
assert gdb.selected_frame().name() == "add", run("bt")
run("delete")
run("break steps.c:{line('after')}")
run("continue")
run("continue")
run("reverse-next")
assert here() == {line('fibonacci')}, here()
run("reverse-next")
assert here() == {line('round')}, here()
run("step")
assert gdb.selected_frame().name() == "fill", run("bt")
run("reverse-step")
assert here() == {line('round')}, here()
""")


def test_both_ends(folder):
    text = gdb(record(folder), """
run("reverse-stepi")
assert when() == 0
run("continue")
end = when()
assert "ended" in run("monitor when")
run("stepi")
assert when() == end
run("reverse-stepi")
assert when() == end - 1, (when(), end)
run("reverse-continue")
assert when() == 0
""")
    assert text.count("No more reverse-execution history") == 4, text


def test_watchpoints(folder):
    gdb(record(folder), f"""
run("break steps.c:{line('done')}")
run("continue")
run("delete")
final = value("total")
w = gdb.Breakpoint("total", gdb.BP_WATCHPOINT, gdb.WP_WRITE)
seen = []
for _ in range(12):
    run("reverse-continue")
    seen.append((when(), value("total")))
    assert gdb.selected_frame().name() == "add", run("bt")
assert seen[0][1] != final
back = list(reversed(seen))
for n, (at, before) in enumerate(back):
    run("continue")
    assert when() == at + 1
    assert value("total") == (back[n + 1][1] if n + 1 < len(back) else final)
w.delete()
# Reads and any access, on one byte of an element.
r = gdb.Breakpoint("table[3]", gdb.BP_WATCHPOINT, gdb.WP_READ)
run("reverse-continue")
assert here() == {line('after')}, here()
r.delete()
a = gdb.Breakpoint("table[3]", gdb.BP_WATCHPOINT, gdb.WP_ACCESS)
run("reverse-continue")
first = here()
run("reverse-continue")
assert {{first, here()}} <= {{{line('after')}, {line('fill')}}}, (first, here())
a.delete()
# A range longer than any hardware has.
w = gdb.Breakpoint("table", gdb.BP_WATCHPOINT, gdb.WP_WRITE)
run("continue")
assert here() in ({line('after')}, {line('fill')}, {line('fill')} - 1), here()
""")


def test_exceptions_are_seen(folder):
    """A breakpoint at a handler's first instruction stops there, before and after the fault that does
    not retire; stepping passes through it."""
    gdb(record(folder), """
run("break undefined")
run("continue")
run("continue")
run("delete")
while "ud2" not in run("x/i $pc"):
    run("reverse-stepi")
fault, at = reg("rip"), when()
run("stepi")
assert when() == at and reg("rip") != fault, "the step did not come to the handler"
handler = reg("rip")
run("reverse-stepi")
assert reg("rip") == fault and when() == at
run("break *%d" % handler)
run("continue")
assert reg("rip") == handler and when() == at
run("reverse-continue")
assert reg("rip") == handler and when() < at
""")


def test_many_breakpoints(folder):
    gdb(record(folder), """
run("monitor seek 1000")
pcs = set()
run("maintenance flush register-cache")
for _ in range(60):
    run("stepi")
    pcs.add(reg("rip"))
for at in pcs:
    gdb.Breakpoint("*%d" % at, type=gdb.BP_HARDWARE_BREAKPOINT if at % 2 else gdb.BP_BREAKPOINT)
run("monitor seek end")
run("maintenance flush register-cache")
for _ in range(20):
    run("reverse-continue")
    assert reg("rip") in pcs
""")


def test_system_state(folder):
    gdb(record(folder), """
run("break main")
run("continue")
assert reg("cr3") & 0xfff == 0 and reg("cr3"), hex(reg("cr3"))
assert reg("efer") & 0x500 == 0x500 and reg("cr0") & 0x80000001 == 0x80000001
assert reg("gdtr_limit") and reg("idtr_base")
run("info registers xmm0 st0 mxcsr fs_base gs_base eflags cr8 dr7")
assert "64-bit mode, ring 0" in run("info threads"), run("info threads")
# Physical memory: the guest maps one to one, so both views agree where it is mapped.
virtual = run("x/4xg $pc")
run("monitor physical on")
run("maintenance flush dcache")
assert run("x/4xg $pc") == virtual
run("monitor physical off")
fails("x/g 0x7000000000000000")
""")


def record_as(folder, profile, guest):
    trace = os.path.join(folder, f"{guest}-{profile}.retro")
    p = retro("record", "--cpu", profile, "-q", "-o", trace, "-k", os.path.join(GUESTS, guest + ".img"),
              "-a", "100", status=None)
    if p.returncode == 6:
        raise Skip(p.stderr.decode().strip())
    assert p.returncode == 0, p.stderr.decode()
    return trace


def test_ymm(folder):
    """Where the profile has AVX, $ymm0 and so on; changed on a branch alone, as xmm registers are."""
    gdb(record_as(folder, "v2", "steps"), """
assert "Invalid register" in fails("info registers ymm0")
run("info registers xmm15")
""")
    trace = record_as(folder, "v3", "steps")
    for view, count in ("64", 16), ("32", 8), ("16", 8):
        gdb(trace, f"""
run("retro-seek 20000")
names = "xmm2 ymm2 ymm{count - 1}"
before = run("info registers " + names)
assert "ymm{count}" not in run("info registers vector")
said = fails("set $ymm2.v8_int32[5] = 77")
assert "history cannot be changed" in said, said
assert run("info registers " + names) == before
run("retro-branch")
for n in 2, {count - 1}:
    run("set $ymm%d.v8_int32[0] = 3" % n)
    run("set $ymm%d.v8_int32[5] = 77" % n)
run("stepi")
for n in 2, {count - 1}:
    assert value("$ymm%d.v8_int32[5]" % n) == 77, run("info registers ymm%d" % n)
    assert value("$xmm%d.v4_int32[0]" % n) == 3, run("info registers xmm%d" % n)
    assert run("p/x $ymm%dh" % n).endswith("= 0x4d00000000\\n")
run("retro-branch end")
assert run("info registers " + names) == before
""", "--view", view)


def test_ymm_of_a_guest(folder):
    """What a load from memory leaves in a register, and what was there before it."""
    gdb(record_as(folder, "v3", "vectors"), r"""
def ymm(n):
    return [value("$ymm%s.v4_int64[%d]" % (n, i)) for i in range(4)]
run("break uppers")
run("continue")
run("delete")
loads = 0
for _ in range(3000):
    m = re.search(r"vmovdqu (0x[0-9a-f]+)?\(%(\w+)\),%ymm(\d+)", run("x/i $pc"))
    before = m and ymm(m.group(3))
    if m:
        at = int(m.group(1) or "0", 16) + reg(m.group(2))
        want = [value("((long *)%d)[%d]" % (at, i)) for i in range(4)]
    run("stepi")
    if m:
        loads += 1
        assert ymm(m.group(3)) == want and any(want[2:]), (ymm(m.group(3)), want)
        if loads % 4 == 0:
            run("reverse-stepi")
            assert ymm(m.group(3)) == before
            run("stepi")
    if loads == 20:
        break
assert loads == 20, loads
""")


def test_monitor(folder):
    gdb(record(folder), """
assert "last-write" in run("monitor help")
run("break fibonacci")
for _ in range(5):
    run("continue")
at = when()
run("monitor bookmark deep")
run("retro-seek +1000")
assert when() == at + 1000
run("retro-seek -500")
assert when() == at + 500
run("retro-seek deep")
assert when() == at and gdb.selected_frame().name() == "fibonacci"
assert "deep" in run("retro-bookmarks")
run("retro-seek event 10")
assert "effect" in run("retro-events 3")
run("retro-seek end")
console = run("monitor console")
assert console.startswith("round 0\\nround 16\\n"), console
run("retro-seek 60000")
assert console.startswith(run("monitor console").rstrip("\\n")) and run("monitor console") != console
assert "index" in run("retro-checkpoints")
run("retro-seek end")
text = run("retro-last-write total")
m = re.search(r"position ([0-9,]+).* by the instruction at 0x([0-9a-f]+): (.*) -> (.*)", text)
assert m, text
where = int(m.group(1).replace(",", ""))
assert when() > where, "last-write stayed where it found the write"
run("delete")
w = gdb.Breakpoint("total", gdb.BP_WATCHPOINT, gdb.WP_WRITE)
run("retro-seek %d" % where)
run("continue")
assert when() == where + 1
assert "no monitor command" in run("monitor nonsense")
run("monitor seek nowhere")
""")


def test_history_cannot_be_changed(folder):
    gdb(record(folder), """
run("break fibonacci")
run("continue")
at = when()
assert "history cannot be changed" in fails("set $rax = 1"), fails("set $rax = 1")
fails("set var total = 77")
assert value("total") != 77
total = value("total")
run("retro-branch")
run("set var total = 77")
run("set $rax = 0x1234")
assert value("total") == 77 and reg("rax") == 0x1234
run("delete")
run("break add")
run("continue")
assert gdb.selected_frame().name() == "add"
assert "branch" in run("monitor when")
run("monitor branch end")
run("maintenance flush register-cache")
run("maintenance flush dcache")
assert when() == at and value("total") == total, (when(), value("total"))
""")


def test_restart_and_reconnect(folder):
    if not GDB:
        raise Skip("no gdb")
    with Server(record(folder)) as s:
        script = os.path.join(folder, "again.py")
        with open(script, "w") as f:
            f.write(PRELUDE + f"""
run("target extended-remote :{s.port}")
run("monitor seek 5000")
run("maintenance flush register-cache")
gdb.execute("set confirm off")
run("starti")
assert when() == 0, when()
run("monitor bookmark kept")
run("stepi 7")
assert when() == 7
run("disconnect")
run("target remote :{s.port}")
assert when() == 7
assert "kept" in run("monitor bookmarks")
print("ALL" + " WELL")
""")
        for _ in range(2):
            p = subprocess.run([GDB, "-batch", "-nx", os.path.join(GUESTS, "steps.img"), "-x", script],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=60)
            assert b"ALL WELL" in p.stdout, p.stdout.decode()[-3000:]


def test_16_bit_view(folder):
    trace = record(folder, guest="real")
    gdb(trace, """
run("stepi 20")
pc = reg("eip")
run("reverse-stepi 5")
run("stepi 5")
assert reg("eip") == pc
assert "real mode" in run("info threads")
assert "eax" in run("info registers") and "cr0" in run("info registers cr0")
""", "--view", "16")


# ---- without gdb ----

class Server:
    def __init__(self, trace, *options):
        self.p = subprocess.Popen([RETRO, "gdb", "--listen", "0", *options, trace],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        text = self.p.stdout.readline()
        m = re.search(rb":(\d+);", text)
        assert m, text + self.p.stderr.read()
        self.port = int(m.group(1))

    def connect(self):
        return Client(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            err = self.p.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise AssertionError("the server does not end")
        assert self.p.returncode == 0 and b"Sanitizer" not in err, (self.p.returncode, err)


class Client:
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.settimeout(60)
        self.buf = b""
        assert self.ask(b"QStartNoAckMode") == b"OK"

    def send(self, packet):
        self.s.sendall(b"$" + packet + b"#%02x" % (sum(packet) & 255))

    def take(self):
        while True:
            m = re.search(rb"\$([^#]*)#..", self.buf, re.S)
            if m:
                self.buf = self.buf[m.end():]
                return m.group(1)
            data = self.s.recv(65536)
            assert data, "the server closed"
            self.buf += data

    def ask(self, packet):
        self.send(packet)
        return self.take()

    def monitor(self, text):
        self.send(b"qRcmd," + text.encode().hex().encode())
        said = b""
        while True:
            r = self.take()
            if r == b"OK":
                return said.decode(errors="replace")
            assert r.startswith(b"O"), r
            said += bytes.fromhex(r[1:].decode())

    def when(self):
        return int(re.search(r"position ([0-9,]+)", self.monitor("when")).group(1).replace(",", ""))


def test_interrupts(folder):
    """Ctrl-C in both directions ends a search that finds nothing, where it began."""
    trace = os.path.join(folder, "long.retro")
    retro("record", "-q", "-o", trace, "-k", os.path.join(GUESTS, "work.img"), "-a", "1500")
    with Server(trace) as s:
        c = s.connect()
        end = int(re.search(r"([0-9,]+), the end", c.monitor("seek end")).group(1).replace(",", ""))
        c.monitor(f"seek {end // 2}")
        at = c.when()
        c.ask(b"Z0,7fff0000,1")
        for packet in (b"vCont;c", b"bc"):
            c.send(packet)
            time.sleep(0.05)
            c.s.sendall(b"\x03")
            began = time.monotonic()
            reply = c.take()
            # It may have been through already: then the end of history is the answer.
            assert reply.startswith(b"T02") or b"replaylog" in reply, reply
            if reply.startswith(b"T02"):
                assert c.when() == at, "an interrupted search moved"
            assert time.monotonic() - began < 20
            c.monitor(f"seek {at}")


def test_garbage(folder):
    """Whatever comes in: no crash, no hang, and the next client is served."""
    rng = random.Random(SEED)
    trace = record(folder)
    packets = [b"g", b"m0,ffffffffffffffff", b"mffffffffffffffff,10", b"m,", b"Z0,,", b"Z2,0,ffffffffffffffff",
               b"z9,1,1", b"p", b"pffff", b"P", b"P0=", b"G00", b"X0,5:ab", b"M0,4:zz", b"qXfer:features:read:target.xml:",
               b"qXfer:features:read:target.xml:ffffffff,ffffffff", b"qXfer:threads:read::0,0",
               b"vCont;", b"vCont;r", b"vCont;r1,2,3", b"vCont;s:1;c", b"bx", b"b", b"qRcmd,", b"qRcmd,zz", b"qRcmd,4",
               b"qRcmd," + b"seek 99999999999999999999".hex().encode(), b"qRcmd," + b"seek -".hex().encode(),
               b"qRcmd," + b"last-write".hex().encode(), b"qRcmd," + b"last-write 0 99999999999".hex().encode(),
               b"Z0,1000,1;X3,26", b"Z0,1000,1;X4,22002000;X2,2722", b"Z0,1000,1;Xffffffff,00", b"qSupported" + b"a" * 70000,
               b"", b"\x00\x01", b"}", b"}}", b"H", b"T", b"vRun;", b"vKill;", b"R", b"!", b"?", b"D1"]
    with Server(trace) as s:
        for n in range(60):
            raw = socket.create_connection(("127.0.0.1", s.port))
            raw.settimeout(5)
            try:
                for _ in range(rng.randrange(1, 30)):
                    kind = rng.randrange(6)
                    if kind == 0:
                        raw.sendall(rng.randbytes(rng.randrange(1, 400)).replace(b"k", b"g"))
                    elif kind == 1:
                        p = rng.choice(packets)
                        raw.sendall(b"$" + p + b"#" + (b"%02x" % (sum(p) & 255)))
                    elif kind == 2:
                        raw.sendall(b"$" + rng.choice(packets) + b"#00")
                    elif kind == 3:
                        raw.sendall(b"$" + rng.choice(packets)[:rng.randrange(1, 9)])
                    elif kind == 4:
                        raw.sendall(b"\x03-+" * rng.randrange(1, 9))
                    else:
                        p = bytearray(rng.choice(packets) or b"x")
                        p[rng.randrange(len(p))] = rng.randrange(1, 255)
                        p = bytes(p).replace(b"#", b".").replace(b"$", b".")
                        raw.sendall(b"$" + p + b"#" + (b"%02x" % (sum(p) & 255)))
                if n % 10 == 0:
                    raw.sendall(b"$" + b"x" * 3000000)
                if n % 3:
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(65536):
                        pass
            except OSError:
                pass
            raw.close()
            assert s.p.poll() is None, "the server died"
        c = s.connect()
        assert len(c.ask(b"g")) > 500
        c.monitor("seek 100")
        assert c.when() == 100


def test_index_file(folder):
    trace = record(folder)
    text = retro("index", trace).stdout.decode()
    assert "checkpoints" in text, text
    assert "already" in retro("index", trace).stdout.decode()
    index = trace + ".index"
    with open(index, "rb") as f:
        whole = f.read()
    # Stale: it belongs to another recording. Cut. Damaged. Each time it is made anew, and said so.
    other = os.path.join(folder, "other.retro")
    retro("record", "-q", "-o", other, "-k", os.path.join(GUESTS, "steps.img"), "-a", "7")
    shutil.copy(index, other + ".index")
    with Server(other) as s:
        assert "the end" in s.connect().monitor("seek end")
    for content in (whole[:len(whole) // 2], whole[:-20] + bytes(20), b"", bytes(1000)):
        with open(index, "wb") as f:
            f.write(content)
        p = subprocess.Popen([RETRO, "gdb", "--listen", "0", trace], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        p.stdout.readline()
        p.send_signal(signal.SIGTERM)
        err = p.communicate(timeout=20)[1]
        assert p.returncode == 0 and b"making a new one" in err, err
        with open(index, "rb") as f:
            again = f.read()
        assert again == whole, "the index made anew differs"
    # Where none can be written, a temporary one serves.
    os.remove(index)
    with Server(trace, "--no-index") as s:
        assert "the end" in s.connect().monitor("seek end")
    assert not os.path.exists(index)


def test_usage(folder):
    for args in (["gdb"], ["gdb", "--view", "8", "x"], ["gdb", "--listen", "x:y", "x"],
                 ["gdb", "--at", "soon", "x"], ["index"], ["index", "a", "b"]):
        p = retro(*args, status=2)
        assert p.stderr.startswith(b"retro: ") and b"--help" in p.stderr, p.stderr
    p = retro("gdb", os.path.join(folder, "none.retro"), status=3)
    assert b"none.retro" in p.stderr, p.stderr
    if GDB:
        retro("gdb", "--gdb", "no-such-gdb", record(folder), status=3)


# ---- the Debian guest ----

def test_finds_the_planted_bug(folder):
    """The demonstration of the quickstart."""
    kernel, initrd = linux()
    symbols = os.path.join(os.path.dirname(kernel), "ledger")
    if not GDB or not os.path.exists(symbols):
        raise Skip("no gdb" if not GDB else "this guest has no ledger: run tools/guest again")
    trace = os.path.join(folder, "crash.retro")
    retro("record", "-q", "-o", trace, "-k", kernel, "-i", initrd, "--append",
          "console=ttyS0 panic=-1 quiet mode=ledger")
    script = os.path.join(os.path.dirname(__file__), "..", "..", "tools", "demo", "find-culprit.py")
    p = subprocess.run([RETRO, "gdb", "--symbols", symbols, "--at", "end", trace, "-batch", "-nx",
                        "-x", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=300)
    text = p.stdout.decode(errors="replace")
    assert "# Found: note() copied 'settlement of 12/31'" in text, text[-3000:]


def test_debian_random_walk(folder):
    """Random commands on a recording of Linux, each state compared with a straight replay's."""
    walk = os.path.join(BUILD, "tests", "unit", "vmm", "walk")
    if not os.path.exists(walk):
        raise Skip("no walk program in this build")
    kernel, initrd = linux()
    trace = os.path.join(folder, "debian.retro")
    retro("record", "-q", "-o", trace, "-k", kernel, "-i", initrd, "--append",
          "console=ttyS0 panic=-1 quiet work=" + os.environ.get("RV_WORK", "20"))
    count = os.environ.get("RV_WALK_COUNT", "300")
    p = subprocess.run([walk, trace, count, str(SEED)], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=1800)
    assert p.returncode == 0, p.stdout.decode()
    print(p.stdout.decode().strip())


if __name__ == "__main__":
    retrotest.main()
