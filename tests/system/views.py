"""Whole-run views of a recording - console, stat, diff, export - against the recording itself."""

import json
import os

import retrotest
from retrotest import BUILD, Skip, info, linux, retro


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
    assert d["input"]["a"]["position"] < i["position"] < d["memory"]["position"]
    assert "hello" in d["output"]["a"]["data"] and "hallo" in d["output"]["b"]["data"]


if __name__ == "__main__":
    retrotest.main()
