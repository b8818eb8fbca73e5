"""The page of retro view in a real browser: what it shows of a run, by mouse and by keyboard alone."""

import os
import re

import retrotest
from browser import Browser
from retrotest import retro
from views import debian, echo, info, lines_of, record

READY = "!!window.retro"


def view(folder, trace, *args):
    out = os.path.join(folder, "page.html")
    retro("view", "-f", "-q", "-o", out, *args, trace)
    return out


def opened(page, **kw):
    b = Browser(**kw)
    try:
        b.open(page)
        b.until(READY, "the page")
        b.js("window.asked = performance.getEntriesByType('resource').map(e => e.name)")
    except BaseException:
        b.close()
        raise
    return b


def no_complaints(b):
    assert b.complaints() == [], b.complaints()
    assert b.js("return performance.getEntriesByType('resource').length") == 0, "the page loaded something"


def span(b):
    v = b.js("return retro.t.view")
    return v[1] - v[0]


def test_shows_the_run(folder):
    trace, printed = debian()
    page = view(folder, trace)
    assert os.path.getsize(page) < 2 << 20
    with opened(page) as b:
        i = info(trace)
        calls = [l for l in lines_of(retro("syscalls", "--json", trace)) if "name" in l]
        facts = b.text("#facts")
        assert f"{len(calls)} system calls" in facts.replace(",", ""), facts
        side = b.text("#details")
        assert f"{i['instructions']:,}" in side and "mode=ledger" in side, side
        lines = b.text("#console")
        for line in printed.decode().splitlines():
            assert line.strip() in lines, line
        names = b.js("return retro.t.lanes.map(l => l.name)")
        assert names[:6] == ["Marks", "Console", "Interrupts", "Exceptions", "CPU", "init"] and "ledger" in names, names
        # Something is drawn, in more than a few colours.
        colours = b.js("""const c = document.getElementById('lanes'), d = c.getContext('2d')
            .getImageData(0, 0, c.width, c.height).data, s = new Set();
            for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
            return s.size""")
        assert colours > 20, colours
        assert not b.js("return document.documentElement.scrollWidth > innerWidth"), "wider than the window"
        no_complaints(b)


def test_zoom_by_wheel_and_keys(folder):
    trace, _ = debian()
    with opened(view(folder, trace)) as b:
        whole = span(b)
        box = b.js("const r = document.getElementById('lanes').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]")
        x, y = box[0] + 700, box[1] + 120
        under = b.js("return retro.t.at(arguments[0])", 700)
        b.wheel(x, y, -800)
        b.until(f"retro.t.view[1] - retro.t.view[0] < {whole * .5}", "zooming in")
        assert abs(b.js("return retro.t.at(arguments[0])", 700) - under) < whole * 1e-3, "zoomed elsewhere"
        b.press("0")
        assert span(b) == whole
        b.press("+", "+", "+")
        assert abs(span(b) - whole / 8) < 2
        left = b.js("return retro.t.view[0]")
        b.js("document.getElementById('lanes').focus()")
        b.press("Right")
        assert b.js("return retro.t.view[0]") > left
        b.press("Home")
        assert b.js("return retro.t.view[0]") == 0
        b.press("End")
        assert abs(b.js("return retro.t.view[1]") - info(trace)["guest_ns"]) < 2
        b.press("-", "-", "-", "-")
        assert span(b) == whole
        b.press("t")
        assert b.js("return retro.t.limit, retro.t.axis") == "at"
        assert abs(b.js("return retro.t.view[1]") - info(trace)["instructions"]) < 2
        assert b.js("return document.getElementById('axis-count').getAttribute('aria-pressed')") == "true"
        no_complaints(b)


def test_search(folder):
    trace, _ = debian()
    with opened(view(folder, trace)) as b:
        b.press("/")
        assert b.js("return document.activeElement.id") == "search"
        b.type("/bin/ledger")
        found = b.js("return [...document.querySelectorAll('.result')].map(r => r.innerText)")
        assert any("execve" in f for f in found) and any("process" in f for f in found), found
        n = next(k for k, f in enumerate(found) if "execve" in f)
        b.press(*["Down"] * n)
        assert b.js("return document.querySelector('.result[aria-selected=true]').innerText") == found[n]
        b.press("Enter")
        side = b.text("#details")
        calls = [l for l in lines_of(retro("syscalls", "--json", trace)) if l.get("name") == "execve"]
        assert side.startswith("execve") and "/bin/ledger" in side, side
        at = int(re.search(r"Position\s*\n?\s*([\d,]+)", side).group(1).replace(",", ""))
        assert any(str(at) == str(c.get("enter", c.get("position"))) for c in calls), (at, calls[:2])
        assert f"retro state --at {at}" in side
        assert b.js("return document.activeElement.id") == "lanes"
        b.press("/")
        b.type("no such thing anywhere")
        assert "Nothing in this run matches" in b.text("#results")
        b.press("Escape")
        assert not b.js("return document.getElementById('results').offsetParent")
        b.press("/")
        b.type("1.2G")
        b.press("Enter")
        assert "Instruction 1,200,000,000" in b.text("#details")
        no_complaints(b)


def test_keyboard_alone_to_a_call_stack(folder):
    trace, _ = debian()
    with opened(view(folder, trace)) as b:
        b.js("document.getElementById('lanes').focus()")
        b.press("]")  # the first mark, which the guest puts before it starts the ledger
        assert b.text("#details").startswith("Mark"), b.text("#details")
        b.press("Down", "]")  # the first line on the console
        assert b.text("#details").startswith("Printed")
        assert b.js("return document.querySelector('.line[aria-selected=true]').innerText").endswith(
            "ledger: 300000 postings")
        for _ in range(20):
            if "Segmentation fault" in b.text("#details"):
                break
            b.press("]")
        b.press("Enter")
        assert b.js("return document.activeElement.id") == "side"
        side = b.text("#details")
        assert "Segmentation fault" in side and "CALL STACK" in side.upper(), side
        # The stack is what retro backtrace prints of that position.
        at = b.js("return retro.m.console.at[retro.t.chosen.i]")
        frames = retro("backtrace", "--at", int(at), trace).stdout.decode()
        names = re.findall(r"^#\d+\s+0x[0-9a-f]+ ([A-Za-z_][\w.]*)", frames, re.M)
        shown = b.js("return [...document.querySelectorAll('.stack li')].map(l => l.innerText)")
        assert len(names) > 5 and len(shown) >= len(names)
        for n in names:
            assert any(n in s for s in shown), (n, shown)
        rip = b.js("""const d = [...document.querySelectorAll('.regs dt')].find(e => e.innerText === 'rip');
                      return d.nextSibling.innerText""")
        assert int(rip, 16) == int(re.search(r"^#0\s+(0x[0-9a-f]+)", frames, re.M).group(1), 16)
        b.js("document.getElementById('lanes').focus()")
        b.press("Down", "Down")
        assert "Exceptions" in b.text("#details")
        b.press("]", "z")
        assert "fault" in b.text("#details h3").lower() and span(b) < 1e6
        b.press("?")
        assert b.js("return document.getElementById('keys').open")
        b.press("Escape")
        assert not b.js("return document.getElementById('keys').open")
        b.press("Escape")
        assert b.text("#details").startswith("This run")
        no_complaints(b)


def test_click_and_bookmark(folder):
    trace, _ = debian()
    page = view(folder, trace)
    with opened(page) as b:
        x, y = b.js("""const l = retro.t.lanes.find(l => l.type === 'runs'), r = document.getElementById('lanes').getBoundingClientRect();
                       return [r.left + 600, r.top + l.y + l.height / 2]""")
        b.move(x, y)
        b.until("!document.getElementById('tip').hidden", "the tip")
        assert b.text("#tip b")
        b.click(x, y)
        b.until("!!retro.t.chosen", "choosing by a click")
        assert b.text("#details h3") == b.js("return retro.m.taskName(retro.m.switches.task(retro.t.chosen.i))")
        b.press("b")
        b.until("location.hash.startsWith('#b=')", "the bookmark in the address")
        at = b.js("return retro.t.bookmarks[0]")
        assert "Marks" in b.js("return retro.t.lanes.map(l => l.name)")
        b.do("POST", "/refresh", {})
        b.until(READY, "the page again")
        assert b.js("return retro.t.bookmarks") == [at]
        no_complaints(b)


def test_light_and_dark(folder):
    trace, _ = debian()
    page = view(folder, trace)
    shade = "getComputedStyle(document.body).backgroundColor"
    with opened(page) as b:
        light = b.js("return " + shade)
        b.press("d")
        dark = b.js("return " + shade)
        assert light != dark
    with opened(page, dark=True) as b:
        assert b.js("return " + shade) == dark


def contrast(b, selector):
    return b.js("""const e = document.querySelector(arguments[0]), rgb = s => s.match(/[\\d.]+/g).slice(0, 3).map(Number);
        let p = e, back = 'rgba(0, 0, 0, 0)';
        while (p && /, 0\\)$|transparent/.test(back)) { back = getComputedStyle(p).backgroundColor; p = p.parentElement; }
        const lum = c => { const v = rgb(c).map(x => (x /= 255) <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                           return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const a = lum(getComputedStyle(e).color), z = lum(back);
        return (Math.max(a, z) + .05) / (Math.min(a, z) + .05)""", selector)


def test_readable(folder):
    """Contrast of what is to be read, by WCAG 2's formula, in both colour schemes."""
    trace, _ = debian()
    page = view(folder, trace)
    for dark in (False, True):
        with opened(page, dark=dark) as b:
            for s in ("#title", "#facts", "#details dt", "#details dd", ".foot", ".line", "#details .sub",
                      "button[aria-pressed=false]"):
                assert contrast(b, s) >= 4.5, (dark, s, contrast(b, s))


def test_guest_text_is_never_markup(folder):
    """A guest that prints HTML - and no Linux, so a page without processes."""
    trace = os.path.join(folder, "evil <b>&\"'.retro")
    typed = (b"<script>window.hacked = 1</script>\n<img src=x onerror='window.hacked=2'>\n"
             b"</script><svg onload=window.hacked=3>\n\x1b]0;t\x07 \xff\xfe \xe2\x80\xae evil\n"
             b"<!--\n]]>\nend\n")
    record(trace, echo(), "-a", "irq <i onclick=window.hacked=4>x</i>", typed=typed)
    page = view(folder, trace)
    with opened(page) as b:
        lines = b.text("#console")
        assert "<script>window.hacked = 1</script>" in lines, lines
        assert "onerror='window.hacked=2'" in lines, lines
        assert b.js("return window.hacked === undefined")
        assert b.js("return document.querySelectorAll('#console img, #console svg, #console script, #details i').length") == 0
        assert b.text("#title") == os.path.basename(trace)
        assert "no processes" in b.text("#details").lower() or b.text("#details .sub")
        b.press("/")
        b.type("<img")
        assert "<img src=x" in b.text("#results")
        b.press("Enter")
        assert "<img src=x onerror='window.hacked=2'>" in b.text("#details pre")
        assert b.js("return window.hacked === undefined")
        command = b.js("return [...document.querySelectorAll('.command code')].map(e => e.innerText)")[0]
        assert command.startswith("retro state --at ")
        # The command is one a shell takes as it is shown.
        import shlex
        assert shlex.split(command)[-1] == trace
        no_complaints(b)
    with open(page) as f:
        text = f.read()
    assert text.count("<script") == 2 and "window.hacked" not in text


def test_part_of_a_run(folder):
    trace, _ = debian()
    end = info(trace)["instructions"]
    with opened(view(folder, trace, "--from", "90%", "--to", "95%")) as b:
        low, high = b.js("return [retro.m.origin('at'), retro.m.limit('at')]")
        assert abs(low - .9 * end) < end * 1e-6 + 2 and abs(high - .95 * end) < end * 1e-6 + 2
        s = b.js("return [retro.m.switches.at[0], retro.m.switches.at[retro.m.switches.n - 1]]")
        assert s[1] <= high
        no_complaints(b)
    retro("view", "-f", "-o", os.path.join(folder, "x.html"), "--from", "99%", "--to", "1%", trace, status=2)


def test_output(folder):
    trace = os.path.join(folder, "t.retro")
    record(trace, echo(), "-a", "irq", typed=b"end\n")
    retro("view", trace)
    assert os.path.getsize(trace + ".html") > 10000
    p = retro("view", trace, status=3)
    assert b"exists" in p.stderr and b"--force" in p.stderr
    retro("view", "--force", trace)
    assert b"cannot write" in retro("view", "-o", os.path.join(folder, "no", "way.html"), trace, status=3).stderr
    assert not [n for n in os.listdir(folder) if ".part" in n]


if __name__ == "__main__":
    retrotest.main()
