'use strict';
/* The run, as tools/page_data.c packed it: columns of numbers, most as differences to the one before,
 * and a table of strings. Every string may be anything a guest made up: it is only ever shown as text,
 * never as markup. */

const NONE = -1;

async function unpack() {
  const text = document.getElementById('data').textContent.trim();
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}

/* Undoes differences. */
function sum(deltas) {
  const out = new Float64Array(deltas.length);
  let v = 0;
  for (let i = 0; i < deltas.length; i++) out[i] = v += deltas[i];
  return out;
}

/* First index whose value is above x. */
function above(list, x) {
  let low = 0, high = list.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (list[mid] <= x) low = mid + 1; else high = mid;
  }
  return low;
}

/* A row of things that happen, in order of time. start and end are [instructions, nanoseconds]. */
class Series {
  constructor(model, kind, raw) {
    this.model = model;
    this.kind = kind;
    this.raw = raw;
    this.n = raw.at.length;
    this.at = sum(raw.at);
    this.ns = sum(raw.ns);
    this.total = raw.total ?? this.n;
    this.endAt = this.reach(raw.len, this.at, model.end);
    this.endNs = this.reach(raw.dur, this.ns, model.ns);
  }
  reach(length, start, end) {
    if (!length) return start;
    const out = new Float64Array(this.n);
    for (let i = 0; i < this.n; i++) out[i] = length[i] < 0 ? end : start[i] + length[i];
    return out;
  }
  starts(axis) { return axis === 'ns' ? this.ns : this.at; }
  ends(axis) { return axis === 'ns' ? this.endNs : this.endAt; }
  many(i) { return this.raw.many ? this.raw.many[i] : 0; }
  task(i) { return this.raw.task ? this.raw.task[i] : NONE; }
}

class Model {
  constructor(d) {
    this.d = d;
    this.s = d.strings;
    this.end = d.end;
    this.ns = d.ns;
    this.from = [d.from[0], d.from[1]];
    this.tasks = d.tasks;
    const make = (kind, raw) => new Series(this, kind, raw);
    this.switches = make('switch', d.switches);
    this.calls = make('call', d.calls);
    this.interrupts = make('interrupt', d.interrupts);
    this.faults = make('fault', d.faults);
    this.console = make('console', d.console);
    this.marks = make('mark', d.marks);
    this.inputs = make('input', d.inputs);
    this.execs = make('exec', d.execs);
    this.states = d.states;
    this.runs();
    this.byTask(this.calls, 'calls');
    this.byTask(this.faults, 'faults');
    this.anchor();
  }

  /* When each task ran: a switch lasts until the next. */
  runs() {
    const s = this.switches, n = s.n;
    s.endAt = new Float64Array(n);
    s.endNs = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      s.endAt[i] = i + 1 < n ? s.at[i + 1] : this.end;
      s.endNs[i] = i + 1 < n ? s.ns[i + 1] : this.ns;
    }
    this.byTask(s, 'runs');
  }

  /* Gives every task the indices of what is its own. */
  byTask(series, name) {
    for (const t of this.tasks) t[name] = [];
    for (let i = 0; i < series.n; i++) {
      const t = this.tasks[series.task(i)];
      if (t) t[name].push(i);
    }
  }

  /* Pairs of position and time, to go from one axis to the other: between two, time follows the
   * instructions. */
  anchor() {
    const all = [[0, 0], [this.end, this.ns]];
    for (const s of [this.switches, this.calls, this.interrupts, this.faults, this.console, this.inputs])
      for (let i = 0; i < s.n; i++) {
        all.push([s.at[i], s.ns[i]]);
        if (s.endAt !== s.at) all.push([s.endAt[i], s.endNs[i]]);
      }
    all.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    this.anchors = {at: Float64Array.from(all, a => a[0]), ns: Float64Array.from(all, a => a[1])};
  }

  convert(x, from, to) {
    if (from === to) return x;
    const f = this.anchors[from], t = this.anchors[to];
    const i = Math.min(Math.max(above(f, x), 1), f.length - 1);
    const width = f[i] - f[i - 1];
    return width ? t[i - 1] + (x - f[i - 1]) / width * (t[i] - t[i - 1]) : t[i - 1];
  }

  limit(axis) { return axis === 'ns' ? this.ns : this.end; }
  origin(axis) { return axis === 'ns' ? this.from[1] : this.from[0]; }
  taskName(i) {
    const t = this.tasks[i];
    return t ? `${this.s[t.comm]} ${t.tid}` : 'nobody known';
  }
  /* The sampled state nearest to a position. */
  nearestState(at) {
    let best = null;
    for (const s of this.states) if (!best || Math.abs(s.at - at) < Math.abs(best.at - at)) best = s;
    return best;
  }
}

/* ---- numbers for people ---- */

function group(n) { return Math.round(n).toLocaleString('en-US'); }

function short(n) {
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]])
    if (Math.abs(n) >= size) return trim(n / size) + ' ' + unit;
  return String(Math.round(n));
}

function trim(v) { return v.toFixed(v < 10 ? 2 : v < 100 ? 1 : 0).replace(/\.?0+$/, m => m.includes('.') ? '' : m); }

function duration(ns) {
  if (ns >= 1e9) return trim(ns / 1e9) + ' s';
  if (ns >= 1e6) return trim(ns / 1e6) + ' ms';
  if (ns >= 1e3) return trim(ns / 1e3) + ' \u00b5s';
  return Math.round(ns) + ' ns';
}

function seconds(ns) { return (ns / 1e9).toFixed(6) + ' s'; }

/* A label for a tick of the axis, with as many digits as the step between ticks needs. */
function tickLabel(v, step, axis) {
  if (axis === 'ns') {
    const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / 1e9) - 1e-9)));
    return (v / 1e9).toFixed(digits) + ' s';
  }
  const [unit, size] = v >= 1e9 ? ['G', 1e9] : v >= 1e6 ? ['M', 1e6] : v >= 1e3 ? ['k', 1e3] : ['', 1];
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / size) - 1e-9)));
  return (v / size).toFixed(digits) + (unit && ' ' + unit);
}

/* A position as a user may write it: 1234, 1.5G, 2,000. NaN: none. */
function parsePosition(text) {
  const m = /^@?\s*([0-9][0-9,_]*(?:\.[0-9]+)?)\s*([kKMG]?)$/.exec(text.trim());
  if (!m) return NaN;
  return parseFloat(m[1].replace(/[,_]/g, '')) * ({k: 1e3, K: 1e3, M: 1e6, G: 1e9}[m[2]] || 1);
}

const ERRNO = {1: 'EPERM', 2: 'ENOENT', 3: 'ESRCH', 4: 'EINTR', 5: 'EIO', 6: 'ENXIO', 7: 'E2BIG', 8: 'ENOEXEC', 9: 'EBADF',
  10: 'ECHILD', 11: 'EAGAIN', 12: 'ENOMEM', 13: 'EACCES', 14: 'EFAULT', 16: 'EBUSY', 17: 'EEXIST', 19: 'ENODEV',
  20: 'ENOTDIR', 21: 'EISDIR', 22: 'EINVAL', 24: 'EMFILE', 25: 'ENOTTY', 28: 'ENOSPC', 29: 'ESPIPE', 30: 'EROFS',
  32: 'EPIPE', 34: 'ERANGE', 36: 'ENAMETOOLONG', 38: 'ENOSYS', 39: 'ENOTEMPTY', 40: 'ELOOP', 61: 'ENODATA', 95: 'EOPNOTSUPP', 110: 'ETIMEDOUT'};

function resultText(v) {
  if (v === null) return 'did not return';
  if (v < 0 && v >= -4095) return `-1 ${ERRNO[-v] || 'errno ' + -v}`;
  return Math.abs(v) >= 1e6 ? '0x' + v.toString(16) : String(v);
}

const EXCEPTIONS = ['divide error', 'debug', 'NMI', 'breakpoint', 'overflow', 'bound', 'undefined instruction', 'no device',
  'double fault', '', 'bad TSS', 'segment not present', 'stack fault', 'protection fault', 'page fault', '', 'x87 error',
  'alignment', 'machine check', 'SIMD error'];
