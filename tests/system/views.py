"""Whole-run views of a recording - console, stat, diff, export - against the recording itself."""

import csv
import functools
import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import retrotest
from retrotest import BUILD, Skip, info, linux, retro

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")


def echo():
    image = os.path.join(BUILD, "tests", "guests", "echo.img")
    if not os.path.exists(image):
        raise Skip("the small guests are not built")
    return image


def record(trace, kernel, *args, typed=None):
    """Records a guest that gets the bytes `typed`; returns what it printed."""
    if typed is not None:
        with open(trace + ".typed", "wb") as f:
            f.write(typed)
        args += ("--input", trace + ".typed")
    return retro("record", "-f", "-o", trace, "-k", kernel, *args).stdout


def lines_of(p):
    return [json.loads(l) for l in p.stdout.decode().splitlines()]


def bytes_of(text):
    return text.encode("latin-1")


# ---- lines of JSON ----

def test_json_is_one_object_a_line(folder):
    """Also for readers that take other characters than newlines for ends of lines, as str does."""
    trace = os.path.join(folder, "t.retro")
    odd = b"a\x85b \xc2\x85 \xe2\x80\xa8 \x0b\x0c\x1c end\n"
    assert odd[:-1] in record(trace, echo(), "-a", "irq", typed=odd)
    events = lines_of(retro("events", "--json", trace))
    typed = b"".join(bytes_of(e["data"]) for e in events if e["kind"] == "input")
    assert typed == odd, typed
    lines_of(retro("console", "--json", trace))


# ---- console ----

def test_console_is_what_was_printed(folder):
    trace = os.path.join(folder, "t.retro")
    printed = record(trace, echo(), "-a", "irq", typed=b"one \x1b[31mtwo\xff\nthree\nend\n")
    assert b"\x1b[31m" in printed and b"\xff" in printed
    assert retro("console", trace).stdout == printed
    pieces = lines_of(retro("console", "--json", trace))
    assert b"".join(bytes_of(p["data"]) for p in pieces) == printed
    assert [p["position"] for p in pieces] == sorted(p["position"] for p in pieces)
    assert all(p["data"].count("\n") <= 1 for p in pieces)


def test_console_at_a_position(folder):
    """What replay has printed when it stops there is what console --at shows."""
    trace = os.path.join(folder, "t.retro")
    printed = record(trace, echo(), "-a", "irq", typed=b"some text\nend\n")
    end = info(trace)["instructions"]
    seen = set()
    for at in range(0, end, max(1, end // 40)):
        shown = retro("console", "--at", at, trace).stdout
        assert printed.startswith(shown), at
        assert shown == retro("replay", "--to", at, trace).stdout if at else shown == b"", at
        seen.add(shown)
    assert len(seen) > 4, "positions within the output were not told apart"
    p = retro("console", "--at", end + 1, trace, status=2)
    assert b"after the end" in p.stderr


def test_asciicast(folder):
    trace = os.path.join(folder, "t.retro")
    typed = "gr\u00fc\u00df\u2603\U0001f600 \x1b[1m".encode() + b"bad \xc3( \xf0\x9f\nend\n"
    printed = record(trace, echo(), "-a", "irq", typed=typed)
    out = retro("console", "--asciinema", trace).stdout.decode()
    header, *events = [json.loads(l) for l in out.splitlines()]
    assert header["version"] == 2 and header["width"] > 0 and header["height"] > 0, header
    times = [e[0] for e in events]
    assert times == sorted(times) and times[-1] <= info(trace)["guest_ns"] / 1e9
    assert {e[1] for e in events} == {"o"}
    assert "".join(e[2] for e in events) == printed.decode(errors="replace")


# ---- diff ----

def diff(a, b, *args, status):
    return json.loads(retro("diff", "--json", *args, a, b, status=status).stdout)


def two(folder, kernel, typed, *args):
    """Two recordings of the same start that are typed different bytes."""
    a, b = os.path.join(folder, "a.retro"), os.path.join(folder, "b.retro")
    record(a, kernel, *args, typed=typed[0])
    record(b, kernel, *args, "--like", a, typed=typed[1])
    return a, b


def check_one_character(folder, mode):
    a, b = two(folder, echo(), (b"hello world\nend\n", b"hello wXrld\nend\n"), "-a", mode)
    d = diff(a, b, status=1)
    assert d["differ"] and d["start"] == []
    assert d["input"]["a"]["text"].startswith('"o"') and d["input"]["b"]["text"].startswith('"X"'), d
    assert d["input"]["a"]["byte"] == 7 and d["input"]["a"]["position"] == d["input"]["b"]["position"]
    i = d["instruction"]
    assert i["exact"] and i["instruction"].startswith("in al"), i
    assert "'o'" in i["why"] and "'X'" in i["why"] and "0x3f8" in i["why"], i["why"]
    # Before it both machines are alike; after it they are not: replay's digests say so. Devices hold
    # the character already, so memory's half is compared, and registers are as diff says.
    assert int(i["a"]["rax"], 16) & 0xff == ord("o") and int(i["b"]["rax"], 16) & 0xff == ord("X")
    at = d["memory"]["position"]
    ram = [[retrotest.summary(retro("replay", "--json", "--to", n, t))["ram_digest"] for t in (a, b)]
           for n in (at - 1, at)]
    assert ram[0][0] == ram[0][1] and ram[1][0] != ram[1][1], (at, ram)
    assert i["position"] < at
    assert bytes_of(d["output"]["a"]["data"])[d["output"]["a"]["offset"]] == ord("o")
    text = retro("diff", a, b, status=1).stdout.decode()
    assert '"o" (0x6f) typed' in text and "in al" in text, text
    assert retro("diff", "--no-replay", a, b, status=1).stdout.decode() in text.replace(
        text[text.index("\nFirst instruction"):text.index("\nFirst differing output")], "")


def test_diff_names_one_character_polled(folder):
    check_one_character(folder, "poll")


def test_diff_names_one_character_by_interrupt(folder):
    check_one_character(folder, "irq")


def test_diff_of_the_same(folder):
    a = os.path.join(folder, "a.retro")
    record(a, echo(), "-a", "irq", typed=b"x\nend\n")
    p = retro("diff", a, a)
    assert p.stdout.startswith(b"No difference"), p.stdout
    assert diff(a, a, status=0)["differ"] is False
    b = os.path.join(folder, "b.retro")
    record(b, echo(), "-a", "irq", "--like", a, typed=b"x\nend\n")
    assert diff(a, b, status=0)["differ"] is False, "recorded twice with the same input"


def test_diff_of_other_starts(folder):
    a, b = os.path.join(folder, "a.retro"), os.path.join(folder, "b.retro")
    record(a, echo(), "-a", "irq", typed=b"end\n")
    record(b, echo(), "-a", "poll", "-m", "64M", typed=b"end\n")
    d = diff(a, b, status=1)
    assert {s["what"] for s in d["start"]} == {"command line", "memory (bytes)"}, d
    assert retro("diff", a, os.path.join(folder, "none"), status=3).stderr.startswith(b"retro: ")
    with open(b, "wb") as f:
        f.write(b"no trace")
    retro("diff", a, b, status=4)
    retro("diff", a, status=2)


def test_diff_of_clocks(folder):
    """Recordings that do not start alike in what the host said at power-on."""
    a, b = os.path.join(folder, "a.retro"), os.path.join(folder, "b.retro")
    record(a, echo(), "-a", "irq", typed=b"end\n")
    record(b, echo(), "-a", "irq", typed=b"end\n")
    d = diff(a, b, status=1)
    assert d["input"]["a"]["kind"] == "query" and d["inputs_alike"] < 5, d
    assert d["instruction"] is None, "echo never looks at the clock"


def test_diff_of_a_debian_guest(folder):
    """One character typed into a shell of a Debian guest, a billion instructions after the start."""
    kernel, initrd = linux()
    a, b = two(folder, kernel, (b"echo hello\npoweroff -f\n", b"echo hallo\npoweroff -f\n"), "-q",
               "-i", initrd, "-a", "console=ttyS0 panic=-1 quiet mode=shell")
    d = diff(a, b, status=1)
    assert '"e" (0x65)' in d["input"]["a"]["text"] and '"a" (0x61)' in d["input"]["b"]["text"], d
    i = d["instruction"]
    assert i["exact"] and i["instruction"] == "in al, dx" and "0x3f8" in i["why"], i
    assert i["where"].startswith("io_serial_in+0x") and "process" in i["where"], i["where"]
    assert d["input"]["a"]["position"] < i["position"] < d["memory"]["position"]
    assert "hello" in d["output"]["a"]["data"] and "hallo" in d["output"]["b"]["data"]


# ---- a Debian guest, recorded once ----

@functools.cache
def debian():
    """A recording of a Debian guest whose program crashes, and what it printed."""
    kernel, initrd = linux()
    folder = tempfile.mkdtemp(prefix="retro-views-")
    import atexit
    atexit.register(shutil.rmtree, folder, True)
    trace = os.path.join(folder, "crash.retro")
    printed = record(trace, kernel, "-i", initrd, "-a", "console=ttyS0 panic=-1 quiet mode=ledger")
    retro("index", "-q", trace)
    return trace, printed


def test_interrupted(folder):
    """Ctrl-C ends each command with its status, and leaves a whole file or none."""
    trace, _ = debian()
    commands = {"stat": [], "view": ["-o", os.path.join(folder, "page.html")],
                "export": ["-F", "sqlite", "-o", os.path.join(folder, "db")], "console": ["--timing"]}
    for name, args in commands.items():
        more = ["--no-index"] if name in ("stat", "view", "export") else []
        p = subprocess.Popen([retrotest.RETRO, name, *more, *args, trace], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        time.sleep(0.4)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=120)
        assert p.returncode == 130, (name, p.returncode, err)
    left = [n for n in os.listdir(folder) if ".part" in n]
    assert not left, left
    if os.path.exists(os.path.join(folder, "db")):
        with sqlite3.connect(os.path.join(folder, "db")) as db:
            assert db.execute("SELECT value FROM recording WHERE key = 'whole'").fetchone()[0] == 0


# ---- stat ----

def test_stat(folder):
    trace, printed = debian()
    s = json.loads(retro("stat", "--json", trace).stdout)
    i = info(trace)
    assert s["instructions"] == i["instructions"] and s["guest_ns"] == i["guest_ns"] and s["whole"]
    assert {k: v["times"] for k, v in s["events"].items()} == i["events"]
    calls = [l for l in lines_of(retro("syscalls", "--json", trace)) if "name" in l]
    assert s["syscalls"] == len(calls) == sum(c["times"] for c in s["by_name"].values())
    processes = lines_of(retro("ps", "--json", trace))
    assert s["processes"] == len(processes), (s["processes"], len(processes))
    assert s["signalled"] == 1, "ledger dies of its bug, and nothing else does"
    faults = [d for d in s["deliveries"] if d["vector"] == 14 and d["kind"] == "exception"]
    assert faults and faults[0]["times"] > 50
    spans = s["spans"]
    assert spans[0]["from"] == 0 and sum(p["console_bytes"] for p in spans) == len(printed)
    assert sum(p["syscalls"] for p in spans) == s["syscalls"]
    assert sum(p["exceptions"] + p["interrupts"] for p in spans) == sum(
        d["times"] for d in s["deliveries"])
    assert s["pages_written"] <= s["pages_touched"] <= s["pages"] == 256 * 256
    text = retro("stat", trace).stdout.decode()
    assert "page fault" in text and "not known" not in text


def test_stat_of_a_guest_without_linux(folder):
    trace = os.path.join(folder, "t.retro")
    record(trace, echo(), "-a", "irq", typed=b"hello\nend\n")
    s = json.loads(retro("stat", "--json", trace).stdout)
    assert s["system"] is None and "processes" not in s
    assert s["instructions"] == info(trace)["instructions"]
    assert sum(p["input_bytes"] for p in s["spans"]) == len("hello\nend\n")
    serial = [d for d in s["deliveries"] if d["vector"] == 0x24]
    assert serial and serial[0]["kind"] == "interrupt" and serial[0]["times"] >= 1
    assert b"not known" in retro("stat", trace).stdout


# ---- export ----

def export(form, out, trace, *args, status=0):
    return retro("export", "--format", form, "--output", out, trace, *args, status=status)


@functools.cache
def database():
    trace, _ = debian()
    out = trace + ".db"
    export("sqlite", out, trace)
    return sqlite3.connect(out)


def test_export_sqlite(folder):
    trace, printed = debian()
    db = database()
    one = lambda sql: db.execute(sql).fetchone()[0]
    assert one("PRAGMA integrity_check") == "ok"
    assert one("SELECT value FROM recording WHERE key = 'instructions'") == info(trace)["instructions"]
    assert one("SELECT value FROM recording WHERE key = 'whole'") == 1
    assert b"".join(r[0] for r in db.execute("SELECT data FROM console ORDER BY id")) == printed
    calls = [l for l in lines_of(retro("syscalls", "--json", trace)) if "name" in l]
    rows = db.execute("SELECT name, enter FROM syscalls ORDER BY id").fetchall()
    assert [r[0] for r in rows] == [c["name"] for c in calls]
    processes = lines_of(retro("ps", "--json", trace))
    got = {r for r in db.execute("SELECT pid, comm FROM tasks WHERE NOT kernel AND tid = pid")}
    assert {(p["pid"], p["comm"]) for p in processes} == got
    # What ran adds up: tasks have all instructions from the first switch on.
    first = one("SELECT min(position) FROM switches")
    assert one("SELECT sum(instructions) FROM tasks") == info(trace)["instructions"] - first
    assert one("SELECT count(*) FROM tasks WHERE exit_code & 127 = 11 AND comm = 'ledger'") == 1


def test_documented_queries(folder):
    """Every example in docs/export.md runs, and finds something in a run that has it."""
    with open(os.path.join(ROOT, "docs", "export.md")) as f:
        queries = re.findall(r"```sql\n(.*?)```", f.read(), re.S)
    assert len(queries) >= 6
    for sql in queries:
        assert database().execute(sql).fetchall(), sql


def test_documented_tables(folder):
    """docs/export.md names every table and column there is."""
    with open(os.path.join(ROOT, "docs", "export.md")) as f:
        text = f.read()
    for (table,) in database().execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        assert f"| `{table}` |" in text, table
        for column in database().execute(f"PRAGMA table_info({table})"):
            assert f"`{column[1]}`" in text or column[1] in ("id", "arg1", "arg2", "arg3", "arg4"), \
                (table, column[1])


def test_export_csv(folder):
    """The CSV files say what the database says."""
    trace, _ = debian()
    out = os.path.join(folder, "csv")
    export("csv", out, trace)
    tables = [r[0] for r in database().execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert sorted(os.listdir(out)) == sorted(t + ".csv" for t in tables)
    for t in tables:
        with open(os.path.join(out, t + ".csv"), newline="") as f:
            raw = f.read()
        assert raw.endswith("\r\n")
        header, *rows = csv.reader(raw.splitlines(keepends=True), strict=True)
        cursor = database().execute(f"SELECT * FROM {t}")
        assert header == [d[0] for d in cursor.description]

        def shown(v, as_csv):
            if v is None:
                return ""
            if isinstance(v, bytes):
                return v.decode(errors="replace")
            return hex(v & (1 << 64) - 1) if isinstance(v, int) and as_csv.startswith("0x") else str(v)
        want = cursor.fetchall()
        assert len(want) == len(rows), t
        for a, b in zip(rows, want):
            assert a == [shown(v, c) for v, c in zip(b, a)], (t, a, b)


def decode(message, proto, data):
    """protoc's text for a message of one of our schemas."""
    folder = os.path.join(ROOT, "tools", "analysis")
    p = subprocess.run(["protoc", "--decode=" + message, "-I", folder, proto], input=data,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.returncode == 0, p.stderr.decode()
    text = p.stdout.decode()
    assert not re.search(r"^\s*\d+(:| \{)", text, re.M), "a field that is not in " + proto
    return text


# As perfetto.dev documents them: message, field, number.
PERFETTO = {
    "TracePacket": {"timestamp": 8, "trusted_packet_sequence_id": 10, "ftrace_events": 1,
                    "process_tree": 2, "track_event": 11, "track_descriptor": 60},
    "FtraceEventBundle": {"cpu": 1, "event": 2},
    "FtraceEvent": {"timestamp": 1, "pid": 2, "sched_switch": 4},
    "TrackDescriptor": {"uuid": 1, "name": 2, "thread": 4, "counter": 8},
    "TrackEvent": {"type": 9, "track_uuid": 11, "categories": 22, "name": 23, "counter_value": 30,
                   "debug_annotations": 4},
    "DebugAnnotation": {"name": 10, "int_value": 4, "string_value": 6, "pointer_value": 7},
}


def test_export_perfetto(folder):
    trace, printed = debian()
    out = os.path.join(folder, "t.pftrace")
    export("perfetto", out, trace)
    with open(os.path.join(ROOT, "tools", "analysis", "perfetto.proto")) as f:
        schema = f.read()
    for message, fields in PERFETTO.items():
        body = schema[schema.index(f"message {message} {{"):]
        for field, number in fields.items():
            assert re.search(rf"\b{field} = {number};", body), (message, field)
    with open(out, "rb") as f:
        text = decode("retro.perfetto.Trace", "perfetto.proto", f.read())
    one = lambda sql: database().execute(sql).fetchone()[0]
    assert text.count('categories: "syscall"') == one("SELECT count(*) FROM syscalls")
    assert text.count('categories: "exception"') == one("SELECT count(*) FROM traps WHERE kind = 'exception'")
    assert text.count("sched_switch {") == one("SELECT count(*) FROM switches") - 1
    assert text.count("SLICE_BEGIN") == text.count("SLICE_END")
    assert text.count("thread_name:") == one("SELECT count(*) FROM tasks")
    assert 'name: "Segmentation fault"' in text
    packets = text.split("\npacket {")
    begin = next(p for p in packets if 'name: "execve"' in p and "/bin/ledger" in p)
    at, ns = database().execute("SELECT enter, enter_ns FROM syscalls WHERE name = 'execve' "
                                "AND args LIKE '%/bin/ledger%'").fetchone()
    assert f"timestamp: {ns}\n" in begin and f"int_value: {at}\n" in begin


def test_export_profiles(folder):
    trace, _ = debian()
    total = info(trace)["instructions"]
    rows = [l for l in lines_of(retro("profile", "--json", trace)) if "function" in l]
    out = os.path.join(folder, "t.json")
    export("speedscope", out, trace)
    with open(out) as f:
        s = json.load(f)
    assert s["$schema"].endswith("speedscope.app/file-format-schema.json")
    (p,) = s["profiles"]
    assert p["type"] == "sampled" and sum(p["weights"]) == p["endValue"] == total
    frames = s["shared"]["frames"]
    assert len(p["samples"]) == len(p["weights"]) == len(rows)
    got = sorted((frames[stack[0]]["name"], frames[stack[1]]["name"], weight)
                 for stack, weight in zip(p["samples"], p["weights"]))
    assert got == sorted((f"{r['comm']} ({r['pid']})", r["function"] or "(no symbol)", r["instructions"])
                         for r in rows)
    out = os.path.join(folder, "t.pb.gz")
    export("pprof", out, trace)
    with gzip.open(out) as f:
        text = decode("retro.pprof.Profile", "pprof.proto", f.read())
    assert sum(int(v) for v in re.findall(r"^  value: (\d+)", text, re.M)) == total
    strings = re.findall(r'^string_table: "(.*)"$', text, re.M)
    assert strings[0] == "" and "instructions" in strings
    assert {row["function"] for row in rows if row["function"]} <= set(strings)


def test_export_errors(folder):
    trace = os.path.join(folder, "t.retro")
    record(trace, echo(), "-a", "irq", typed=b"end\n")
    out = os.path.join(folder, "out")
    assert b"perfetto, sqlite, csv" in export("xml", out, trace, status=2).stderr
    retro("export", "--format", "csv", trace, status=2)
    retro("export", "--output", out, trace, status=2)
    export("sqlite", out, trace)
    before = open(out, "rb").read()
    p = export("sqlite", out, trace, status=3)
    assert b"exists" in p.stderr and b"--force" in p.stderr
    assert open(out, "rb").read() == before
    export("sqlite", out, trace, "--force")
    assert b"cannot" in export("perfetto", os.path.join(folder, "no", "way"), trace, status=3).stderr
    assert b"is a folder" in export("perfetto", folder, trace, status=2).stderr
    left = [n for n in os.listdir(folder) if ".part" in n]
    assert not left, left
    with sqlite3.connect(out) as db:
        assert db.execute("SELECT count(*) FROM tasks").fetchone()[0] == 0
        assert b"".join(r[0] for r in db.execute("SELECT data FROM console")) == retro("console", trace).stdout


if __name__ == "__main__":
    retrotest.main()
