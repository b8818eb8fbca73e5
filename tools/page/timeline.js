/* The timeline: lanes on a canvas. What is drawn is cheap at any zoom: of all that falls on one column
 * of pixels, one thing is drawn. */

const GUTTER = 178, AXIS = 26, ROW = 22, GAP = 8;
/* For processes; green and orange are taken by system calls and exceptions. */
const HUES = {
  light: ['#3b6fd4', '#9a4fb5', '#b0304f', '#7a6a14', '#1f8fa8', '#6b5bd2', '#8a5a44', '#4a5d8f'],
  dark: ['#79a6ff', '#cf8ee6', '#f27d98', '#cdbb55', '#5fcadf', '#a99cff', '#c99a80', '#9db3e6'],
};
const KINDS = {
  call: {light: '#2a8a63', dark: '#5ccb9b', name: 'system call'},
  interrupt: {light: '#6b7488', dark: '#97a2b8', name: 'interrupt'},
  fault: {light: '#c2571a', dark: '#f0955a', name: 'exception'},
  console: {light: '#2557d6', dark: '#86a9ff', name: 'console'},
  mark: {light: '#a86d00', dark: '#f0bd5b', name: 'mark'},
  bookmark: {light: '#d6336c', dark: '#ff7aa8', name: 'bookmark'},
  input: {light: '#9a4fb5', dark: '#cf8ee6', name: 'input'},
  idle: {light: '#dfe3ea', dark: '#262c39', name: 'idle'},
};

class Timeline {
  constructor(model, host) {
    this.m = model;
    this.host = host;
    this.canvas = document.getElementById('lanes');
    this.overview = document.getElementById('overview');
    this.scroller = document.getElementById('scroll');
    this.axis = 'ns';
    this.bookmarks = [];
    this.chosen = null;    /* {lane, series, i} */
    this.cursor = null;    /* a place on the axis, without an event */
    this.hover = null;
    this.lane = 0;
    this.view = [model.origin('ns'), model.limit('ns')];
    this.theme = 'light';
    this.build();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /* ---- lanes ---- */

  build() {
    const m = this.m, lanes = [];
    const add = (name, type, series, more = {}) => lanes.push({name, type, series, height: ROW, ...more});
    if (m.marks.n || this.bookmarks.length) add('Marks', 'flags', m.marks, {marks: true});
    add('Console', 'ticks', m.console);
    if (m.inputs.n) add('From outside', 'ticks', m.inputs);
    if (m.interrupts.n) add('Interrupts', 'ticks', m.interrupts);
    if (m.faults.n) add('Exceptions', 'ticks', m.faults);
    if (m.switches.n) add('CPU', 'runs', m.switches, {height: 26, gap: true});
    for (const i of this.order()) {
      const t = m.tasks[i];
      add(m.s[t.comm], 'task', m.calls, {task: i, tid: t.tid, height: 24, gap: !lanes.some(l => l.type === 'task')});
    }
    let y = AXIS;
    for (const l of lanes) {
      if (l.gap) y += GAP;
      l.y = y;
      y += l.height;
    }
    /* What comes after the CPU's lane scrolls. */
    this.fixed = lanes.findIndex(l => l.type === 'task');
    if (this.fixed < 0) this.fixed = lanes.length;
    this.lanes = lanes;
    this.height = y + 6;
    this.scroller.firstElementChild.style.height = this.height + 'px';
  }

  /* Tasks as a tree: children behind their parents, user processes first. */
  order() {
    const m = this.m, children = new Map(), out = [];
    m.tasks.forEach((t, i) => {
      if (t.tid === 0) return;
      const p = t.process !== i && m.tasks[t.process] ? t.process : t.parent;
      if (!children.has(p)) children.set(p, []);
      children.get(p).push(i);
    });
    const done = new Set();
    const walk = i => {
      if (done.has(i)) return;
      done.add(i);
      out.push(i);
      for (const c of children.get(i) || []) if (m.tasks[c].kernel === m.tasks[i].kernel) walk(c);
    };
    m.tasks.forEach((t, i) => { if (!t.kernel && t.tid) walk(i); });
    m.tasks.forEach((t, i) => { if (t.kernel && t.tid && t.runs.length) walk(i); });
    return out.filter(i => m.tasks[i].start <= m.end && (m.tasks[i].end === null || m.tasks[i].end >= m.from[0]));
  }

  /* ---- places ---- */

  get width() { return this.canvas.clientWidth - GUTTER - 12; }
  x(v) { return GUTTER + (v - this.view[0]) / (this.view[1] - this.view[0]) * this.width; }
  at(px) { return this.view[0] + (px - GUTTER) / this.width * (this.view[1] - this.view[0]); }
  top() { return this.scroller.scrollTop; }
  laneY(l) { return this.lanes.indexOf(l) < this.fixed ? l.y : l.y - this.top(); }

  clamp(v0, v1) {
    const low = this.m.origin(this.axis), high = this.m.limit(this.axis);
    const least = this.axis === 'ns' ? 50 : 50;
    let w = Math.min(Math.max(v1 - v0, least), high - low || 1);
    v0 = Math.min(Math.max(v0, low), high - w);
    this.view = [v0, v0 + w];
  }
  show(v0, v1) {
    this.clamp(v0, v1);
    this.draw();
    this.host.moved();
  }
  zoom(factor, around = (this.view[0] + this.view[1]) / 2) {
    const [a, b] = this.view;
    this.show(around - (around - a) * factor, around + (b - around) * factor);
  }
  pan(part) {
    const w = (this.view[1] - this.view[0]) * part;
    this.show(this.view[0] + w, this.view[1] + w);
  }
  fit() { this.show(this.m.origin(this.axis), this.m.limit(this.axis)); }
  center(v, width) {
    const w = width || Math.min(this.view[1] - this.view[0], (this.m.limit(this.axis) - this.m.origin(this.axis)) / 20);
    this.show(v - w / 2, v + w / 2);
  }
  setAxis(axis) {
    if (axis === this.axis) return;
    const v = this.view.map(x => this.m.convert(x, this.axis, axis));
    if (this.cursor !== null) this.cursor = this.m.convert(this.cursor, this.axis, axis);
    this.axis = axis;
    this.show(v[0], v[1]);
  }

  /* The indices into a lane's series that are its own, or null: all of them. */
  own(l) { return l.type === 'task' ? this.m.tasks[l.task].calls : null; }
  count(l) { const own = this.own(l); return own ? own.length : l.series ? l.series.n : 0; }
  nth(l, k) { const own = this.own(l); return own ? own[k] : k; }
  /* How many of a lane's things begin at or before v. */
  before(l, v) {
    const starts = l.series.starts(this.axis), own = this.own(l);
    if (!own) return above(starts, v);
    let low = 0, high = own.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (starts[own[mid]] <= v) low = mid + 1; else high = mid;
    }
    return low;
  }

  /* What is under a point: the thing that covers it, or begins within a few pixels. */
  pick(px, py) {
    const l = this.laneAt(py);
    if (!l || px < GUTTER) return l ? {lane: l} : null;
    if (l.marks) {
      const b = this.bookmarks.findIndex(v => Math.abs(this.x(this.m.convert(v, 'at', this.axis)) - px) < 6);
      if (b >= 0) return {lane: l, bookmark: b};
    }
    if (!l.series) return {lane: l};
    const v = this.at(px), reach = 5 * (this.view[1] - this.view[0]) / this.width;
    const starts = l.series.starts(this.axis), ends = l.series.ends(this.axis);
    let best = null, distance = reach;
    for (let k = this.before(l, v + reach) - 1, tries = 0; k >= 0 && tries < 400; k--, tries++) {
      const i = this.nth(l, k);
      if (starts[i] <= v && v <= ends[i]) return {lane: l, series: l.series, i};
      const d = Math.min(Math.abs(starts[i] - v), Math.abs(ends[i] - v));
      if (d < distance) [best, distance] = [i, d];
    }
    return best === null ? {lane: l} : {lane: l, series: l.series, i: best};
  }
  laneAt(py) {
    for (const l of this.lanes) {
      const y = this.laneY(l);
      if (py >= y && py < y + l.height && (this.lanes.indexOf(l) < this.fixed || py >= this.fixedBottom())) return l;
    }
    return null;
  }
  fixedBottom() {
    const l = this.lanes[this.fixed - 1];
    return l ? l.y + l.height + GAP / 2 : AXIS;
  }

  /* ---- choosing ---- */

  choose(what, zoomed = false) {
    this.chosen = what;
    if (what && what.lane) this.lane = this.lanes.indexOf(what.lane);
    if (what && what.series) {
      const a = what.series.starts(this.axis)[what.i], b = what.series.ends(this.axis)[what.i];
      this.cursor = a;
      if (zoomed) {
        const w = Math.max((b - a) * 3, (this.m.limit(this.axis) - this.m.origin(this.axis)) / 1e6, 200);
        this.clamp((a + b) / 2 - w, (a + b) / 2 + w);
      } else if (a < this.view[0] || a > this.view[1]) {
        const w = this.view[1] - this.view[0];
        this.clamp(a - w / 2, a + w / 2);
      }
      this.reveal();
    }
    this.draw();
    this.host.chose();
  }
  /* The thing before or after, in the lane in hand. */
  step(by) {
    const l = this.lanes[this.lane];
    if (!l || !l.series || !this.count(l)) return;
    let k;
    if (this.chosen && this.chosen.series === l.series && this.chosen.lane === l) {
      const own = this.own(l);
      k = (own ? own.indexOf(this.chosen.i) : this.chosen.i) + by;
    } else {
      const v = this.cursor ?? this.view[0];
      k = by > 0 ? this.before(l, v) : this.before(l, v) - 1;
    }
    k = Math.min(Math.max(k, 0), this.count(l) - 1);
    this.choose({lane: l, series: l.series, i: this.nth(l, k)});
  }
  stepLane(by) {
    this.lane = Math.min(Math.max(this.lane + by, 0), this.lanes.length - 1);
    this.reveal();
    this.draw();
    const l = this.lanes[this.lane];
    this.host.say(`${l.name}${l.tid ? ' ' + l.tid : ''}, ${this.count(l)} events`);
  }
  reveal() {
    if (this.lane < this.fixed) return;
    const l = this.lanes[this.lane], low = this.fixedBottom(), high = this.canvas.clientHeight;
    if (l.y - this.top() < low) this.scroller.scrollTop = l.y - low;
    else if (l.y + l.height - this.top() > high) this.scroller.scrollTop = l.y + l.height - high + 4;
  }
  laneOf(kind, task) {
    const type = {call: l => l.type === 'task' && l.task === task, exec: l => l.type === 'task' && l.task === task,
      console: l => l.series === this.m.console, mark: l => l.marks, interrupt: l => l.series === this.m.interrupts,
      fault: l => l.series === this.m.faults, input: l => l.series === this.m.inputs, switch: l => l.type === 'runs'}[kind];
    return this.lanes.find(type);
  }

  /* ---- drawing ---- */

  colour(kind) { return KINDS[kind][this.theme]; }
  taskColour(i) {
    const t = this.m.tasks[i];
    if (!t || t.tid === 0) return this.colour('idle');
    const name = this.m.s[t.comm];
    let h = 7;
    for (let k = 0; k < name.length; k++) h = (h * 31 + name.charCodeAt(k)) >>> 0;
    return t.kernel ? this.colour('interrupt') : HUES[this.theme][h % 8];
  }
  prepare(canvas) {
    const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const c = canvas.getContext('2d');
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    return [c, w, h];
  }
  css(name) { return this.style.getPropertyValue(name).trim(); }

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.style = getComputedStyle(document.documentElement);
      this.drawLanes();
      this.drawOverview();
    });
  }

  drawLanes() {
    const [c, w, h] = this.prepare(this.canvas);
    this.font = getComputedStyle(document.body).fontFamily;
    c.textBaseline = 'middle';
    this.drawGrid(c, w, h);
    c.save();
    c.beginPath();
    c.rect(0, this.fixedBottom(), w, h);
    c.clip();
    for (let i = this.fixed; i < this.lanes.length; i++) {
      const l = this.lanes[i], y = this.laneY(l);
      if (y + l.height > AXIS && y < h) this.drawLane(c, l, y, w);
    }
    c.restore();
    for (let i = 0; i < this.fixed; i++) this.drawLane(c, this.lanes[i], this.lanes[i].y, w);
    if (this.fixed < this.lanes.length) {
      c.fillStyle = this.css('--line');
      c.fillRect(0, this.fixedBottom(), w, 1);
    } else {
      this.drawEmpty(c, w, h);
    }
    this.drawCursor(c, h);
  }
  drawEmpty(c, w, h) {
    const y = this.fixedBottom() + 30;
    if (y > h - 20) return;
    c.fillStyle = this.css('--dim');
    c.font = `13px ${this.font}`;
    c.textAlign = 'center';
    c.fillText(this.m.d.note || 'No processes are known of this guest.', GUTTER + this.width / 2, y, this.width - 20);
    c.textAlign = 'left';
  }

  ticks() {
    const span = this.view[1] - this.view[0], rough = span / Math.max(2, this.width / 110);
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= rough);
    const out = [];
    for (let v = Math.ceil(this.view[0] / step) * step; v <= this.view[1]; v += step) out.push(v);
    return [out, step];
  }
  drawGrid(c, w, h) {
    const [ticks, step] = this.ticks();
    c.font = `11px ${this.font}`;
    for (const v of ticks) {
      const x = Math.round(this.x(v)) + .5;
      c.fillStyle = this.css('--line');
      c.fillRect(x - .5, AXIS - 5, 1, h);
      c.fillStyle = this.css('--dim');
      const label = tickLabel(v, step, this.axis), wide = c.measureText(label).width;
      if (x + wide / 2 < w - 4) c.fillText(label, Math.max(x - wide / 2, GUTTER), 11);
    }
    c.fillStyle = this.css('--faint');
    c.fillText(this.axis === 'ns' ? 'guest time' : 'instructions', 14, 11);
    c.fillStyle = this.css('--line');
    c.fillRect(0, AXIS - 1, w, 1);
  }

  drawLane(c, l, y, w) {
    if (this.lanes.indexOf(l) === this.lane) {
      c.fillStyle = this.css('--accent-soft');
      c.globalAlpha = .55;
      c.fillRect(0, y, w, l.height);
      c.globalAlpha = 1;
    }
    this.drawName(c, l, y);
    c.save();
    c.beginPath();
    c.rect(GUTTER, y, this.width, l.height);
    c.clip();
    if (l.type === 'ticks') this.drawTicks(c, l, y);
    else if (l.type === 'flags') this.drawFlags(c, l, y);
    else if (l.type === 'runs') this.drawRuns(c, l, y, null);
    else this.drawTask(c, l, y);
    c.restore();
  }
  drawName(c, l, y) {
    const t = l.type === 'task' ? this.m.tasks[l.task] : null;
    let x = 14;
    if (t) {
      c.fillStyle = this.taskColour(l.task);
      c.beginPath();
      c.roundRect(x, y + l.height / 2 - 4, 8, 8, 2.5);
      c.fill();
      x += 15;
    }
    c.font = `${t ? 400 : 500} 12.5px ${this.font}`;
    c.fillStyle = this.css(t && t.kernel ? '--dim' : '--text');
    const number = t ? String(t.tid) : '';
    const room = GUTTER - x - 12 - (number ? 34 : 0);
    c.fillText(this.fitText(c, l.name, room), x, y + l.height / 2 + .5);
    if (!number) return;
    c.fillStyle = this.css('--faint');
    c.font = `11px ${this.font}`;
    c.textAlign = 'right';
    c.fillText(number, GUTTER - 12, y + l.height / 2 + .5);
    c.textAlign = 'left';
  }
  fitText(c, text, room) {
    text = text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\u00b7');
    if (c.measureText(text).width <= room) return text;
    let n = Math.min(text.length, 200);
    while (n > 0 && c.measureText(text.slice(0, n) + '\u2026').width > room) n--;
    return n ? text.slice(0, n) + '\u2026' : '';
  }

  /* Calls fn(i, x0, x1) for what is in view, once a column of pixels. */
  each(l, fn) {
    const starts = l.series.starts(this.axis), ends = l.series.ends(this.axis), own = this.own(l);
    const n = this.count(l);
    let k = Math.max(0, this.before(l, this.view[0]) - 1), column = -Infinity;
    /* A long one may have begun well before. */
    for (let back = 0; k > 0 && back < 64; back++) if (ends[own ? own[k - 1] : k - 1] >= this.view[0]) k--; else break;
    for (; k < n; k++) {
      const i = own ? own[k] : k;
      if (starts[i] > this.view[1]) break;
      const x0 = this.x(starts[i]), x1 = this.x(ends[i]);
      if (x1 < GUTTER || x1 <= column) continue;
      fn(i, x0, x1);
      column = Math.max(x1, Math.floor(x0) + 1);
    }
  }

  drawTicks(c, l, y) {
    const kind = l.series.kind, colour = this.colour(kind);
    let free = -Infinity;
    c.font = `11px ${this.font}`;
    this.each(l, (i, x0, x1) => {
      const many = l.series.many(i);
      c.globalAlpha = many ? .5 : .9;
      c.fillStyle = colour;
      c.fillRect(Math.max(x0, GUTTER), y + 5, Math.max(1.2, x1 - x0), l.height - 10);
      c.globalAlpha = 1;
      if (kind !== 'console' || x0 < free) return;
      /* As much of the line as there is room for, up to the next. */
      const next = i + 1 < l.series.n ? this.x(l.series.starts(this.axis)[i + 1]) : GUTTER + this.width;
      const text = this.m.s[l.series.raw.text[i]].trim();
      const room = Math.min(next, GUTTER + this.width) - x0 - 10;
      if (room < 34 || !text) return;
      const shown = this.fitText(c, text, room);
      c.fillStyle = this.css('--dim');
      c.fillText(shown, x0 + 5, y + l.height / 2 + .5);
      free = x0 + 10 + c.measureText(shown).width;
    });
  }
  drawFlag(c, x, y, h, colour, text) {
    c.fillStyle = colour;
    c.fillRect(x, y + 3, 1.5, h - 5);
    c.beginPath();
    c.moveTo(x, y + 3); c.lineTo(x + 9, y + 6.5); c.lineTo(x, y + 10);
    c.fill();
    if (text) {
      c.font = `11px ${this.font}`;
      c.fillStyle = this.css('--text');
      c.fillText(this.fitText(c, text, 140), x + 12, y + h / 2 + .5);
    }
  }
  drawFlags(c, l, y) {
    this.each(l, (i, x0) => this.drawFlag(c, x0, y, l.height, this.colour('mark'), this.m.s[l.series.raw.text[i]]));
    for (const v of this.bookmarks) this.drawFlag(c, this.x(this.m.convert(v, 'at', this.axis)), y, l.height, this.colour('bookmark'), '');
  }
  drawRuns(c, l, y) {
    this.each(l, (i, x0, x1) => {
      const many = l.series.many(i), task = l.series.task(i), t = this.m.tasks[task];
      x0 = Math.max(x0, GUTTER);
      x1 = Math.min(x1, GUTTER + this.width);
      c.fillStyle = many ? this.css('--faint') : this.taskColour(task);
      c.globalAlpha = many ? .55 : 1;
      c.fillRect(x0, y + 4, Math.max(1, x1 - x0), l.height - 8);
      c.globalAlpha = 1;
      if (x1 - x0 < 42 || many || !t) return;
      c.font = `11px ${this.font}`;
      c.fillStyle = t.tid === 0 ? this.css('--dim') : this.css('--panel');
      c.fillText(this.fitText(c, t.tid === 0 ? 'idle' : this.m.s[t.comm], x1 - x0 - 10), x0 + 5, y + l.height / 2 + .5);
    });
  }
  drawTask(c, l, y) {
    const t = this.m.tasks[l.task], ns = this.axis === 'ns';
    const born = Math.max(this.x(ns ? t.startNs : t.start), GUTTER - 2);
    const gone = t.end === null ? GUTTER + this.width + 2 : this.x(ns ? t.endNs : t.end);
    if (gone < GUTTER) return;
    const colour = this.taskColour(l.task), mid = y + l.height / 2;
    /* Its life, when it ran, its calls. */
    c.fillStyle = colour;
    c.globalAlpha = .28;
    c.fillRect(born, mid - 1, Math.max(1, gone - born), 2);
    c.globalAlpha = 1;
    if (t.end !== null) c.fillRect(gone - 1, mid - 4, 1.5, 8);
    const runs = {series: this.m.switches, type: 'own', list: t.runs};
    this.eachOf(runs, (i, x0, x1) => {
      c.globalAlpha = this.m.switches.many(i) ? .35 : .8;
      c.fillRect(Math.max(x0, GUTTER), mid - 5, Math.max(1, x1 - x0), 10);
    });
    c.globalAlpha = 1;
    c.fillStyle = this.css('--bg');
    this.each(l, (i, x0, x1) => { if (x1 - x0 >= 3) c.fillRect(Math.max(x0, GUTTER), mid - 2.5, x1 - x0, 5); });
    c.fillStyle = this.colour('call');
    this.each(l, (i, x0, x1) => {
      c.globalAlpha = x1 - x0 < 3 ? .75 : 1;
      c.fillRect(Math.max(x0, GUTTER), mid - 2, Math.max(1, x1 - x0), 4);
      if (x1 - x0 < 56 || this.m.calls.many(i)) return;
      c.font = `10px ${this.font}`;
      const left = Math.max(x0, GUTTER), text = this.fitText(c, this.m.s[this.m.calls.raw.name[i]], x1 - left - 8);
      const wide = c.measureText(text).width + 6;
      c.globalAlpha = 1;
      c.fillStyle = this.css('--panel');
      c.fillRect(left + 3, mid - 7, wide, 14);
      c.fillStyle = this.css('--text');
      c.fillText(text, left + 6, mid + .5);
      c.fillStyle = this.colour('call');
    });
    c.globalAlpha = 1;
  }
  eachOf(what, fn) {
    const saved = this.own;
    this.own = () => what.list;
    this.each(what, fn);
    this.own = saved;
  }

  drawCursor(c, h) {
    const line = (v, colour, dash) => {
      const x = this.x(v);
      if (x < GUTTER || x > GUTTER + this.width) return;
      c.strokeStyle = colour;
      c.setLineDash(dash);
      c.beginPath();
      c.moveTo(Math.round(x) + .5, AXIS);
      c.lineTo(Math.round(x) + .5, h);
      c.stroke();
      c.setLineDash([]);
    };
    if (this.hover !== null) line(this.hover, this.css('--line-strong'), [3, 3]);
    if (this.cursor !== null) line(this.cursor, this.css('--select'), []);
    const s = this.chosen;
    if (!s || !s.series) return;
    const l = s.lane, y = this.laneY(l);
    if (this.lanes.indexOf(l) >= this.fixed && y < this.fixedBottom() - l.height) return;
    const x0 = this.x(s.series.starts(this.axis)[s.i]), x1 = this.x(s.series.ends(this.axis)[s.i]);
    if (x1 < GUTTER || x0 > GUTTER + this.width) return;
    c.strokeStyle = this.css('--select');
    c.lineWidth = 1.5;
    const left = Math.max(x0 - 2.5, GUTTER);
    c.strokeRect(left, y + 2.5, Math.min(Math.max(x1 - left + 2.5, 5), this.width), l.height - 5);
    c.lineWidth = 1;
  }

  /* The whole run, small: what ran, and how much happened. */
  drawOverview() {
    const [c, w, h] = this.prepare(this.overview), m = this.m;
    const low = m.origin(this.axis), span = m.limit(this.axis) - low || 1;
    const left = GUTTER, wide = this.width, X = v => left + (v - low) / span * wide;
    const bins = m.d.density, peak = Math.max(1, ...bins[this.axis]);
    c.fillStyle = this.colour('call');
    c.globalAlpha = .75;
    bins[this.axis].forEach((n, i) => {
      const tall = n ? Math.max(1, Math.sqrt(n / peak) * (h - 20)) : 0;
      c.fillRect(left + i / bins[this.axis].length * wide, h - 12 - tall, Math.ceil(wide / bins[this.axis].length), tall);
    });
    c.globalAlpha = 1;
    const starts = m.switches.starts(this.axis), ends = m.switches.ends(this.axis);
    let column = -1;
    for (let i = 0; i < m.switches.n; i++) {
      const x0 = X(starts[i]), x1 = X(ends[i]);
      if (x1 <= column) continue;
      c.fillStyle = m.switches.many(i) ? this.css('--faint') : this.taskColour(m.switches.task(i));
      c.fillRect(x0, h - 9, Math.max(1, x1 - x0), 6);
      column = Math.max(x1, Math.floor(x0) + 1);
    }
    c.fillStyle = this.css('--faint');
    c.font = `11px ${this.font}`;
    c.textBaseline = 'middle';
    c.fillText('whole run', 14, h / 2 - 7);
    c.fillStyle = this.css('--dim');
    c.fillText(this.axis === 'ns' ? duration(m.ns) : short(m.end) + ' instructions', 14, h / 2 + 8);
    const x0 = X(this.view[0]), x1 = Math.max(X(this.view[1]), x0 + 3);
    c.fillStyle = this.css('--bg');
    c.globalAlpha = .66;
    c.fillRect(left, 0, x0 - left, h);
    c.fillRect(x1, 0, left + wide - x1, h);
    c.globalAlpha = 1;
    c.strokeStyle = this.css('--accent');
    c.strokeRect(x0 + .5, 1.5, x1 - x0 - 1, h - 3);
  }

  /* ---- mouse ---- */

  listen() {
    const c = this.canvas;
    let down = null;
    c.addEventListener('pointerdown', e => {
      if (e.button) return;
      down = {x: e.offsetX, view: this.view.slice(), moved: false};
      c.setPointerCapture(e.pointerId);
    });
    c.addEventListener('pointermove', e => {
      if (down && Math.abs(e.offsetX - down.x) > 3) down.moved = true;
      if (down && down.moved) {
        const by = (down.x - e.offsetX) / this.width * (down.view[1] - down.view[0]);
        this.show(down.view[0] + by, down.view[1] + by);
        this.host.tip(null);
        return;
      }
      this.hover = e.offsetX >= GUTTER ? this.at(e.offsetX) : null;
      this.draw();
      this.host.tip(this.pick(e.offsetX, e.offsetY), e.clientX, e.clientY, this.hover);
    });
    c.addEventListener('pointerup', e => {
      if (down && !down.moved) this.click(e);
      down = null;
    });
    c.addEventListener('pointerleave', () => {
      this.hover = null;
      this.host.tip(null);
      this.draw();
    });
    c.addEventListener('dblclick', () => { if (this.chosen && this.chosen.series) this.choose(this.chosen, true); });
    c.addEventListener('wheel', e => {
      e.preventDefault();
      if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) this.pan((e.deltaX || e.deltaY) / this.width);
      else if (e.offsetX < GUTTER) this.scroller.scrollTop += e.deltaY;
      else this.zoom(Math.exp(e.deltaY * .0015), this.at(e.offsetX));
    }, {passive: false});
    this.scroller.addEventListener('scroll', () => this.draw());
    const seek = e => {
      const low = this.m.origin(this.axis), span = this.m.limit(this.axis) - low;
      const v = low + (e.offsetX - GUTTER) / this.width * span, w = this.view[1] - this.view[0];
      this.show(v - w / 2, v + w / 2);
    };
    this.overview.addEventListener('pointerdown', e => { this.overview.setPointerCapture(e.pointerId); seek(e); });
    this.overview.addEventListener('pointermove', e => { if (e.buttons & 1) seek(e); });
  }
  click(e) {
    const p = this.pick(e.offsetX, e.offsetY);
    if (e.offsetX >= GUTTER) this.cursor = this.at(e.offsetX);
    if (p && p.series) return this.choose(p);
    if (p) this.lane = this.lanes.indexOf(p.lane);
    this.choose(p && p.lane.type === 'task' && e.offsetX < GUTTER ? {lane: p.lane, about: p.lane.task} : null);
  }
}
