/* Details, search, console, keys. */

/* An element with text inside: never markup, whatever the text is. */
function el(tag, cls, text) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
}
const $ = id => document.getElementById(id);

class App {
  constructor(model) {
    this.m = model;
    this.t = new Timeline(model, this);
    this.header();
    this.consoleLines();
    this.legend();
    this.listen();
    this.fromAddress();
    this.setTheme(localStorage_('retro-theme') || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
    this.t.fit();
    this.chose();
  }

  /* ---- what stands still ---- */

  header() {
    const d = this.m.d, facts = $('facts');
    $('title').textContent = d.file;
    document.title = d.file + ' - Retrovisor';
    const add = (number, text) => {
      if (facts.childNodes.length) facts.append(el('span', 'sep', '\u00b7'));
      if (number) facts.append(el('b', '', number));
      facts.append(text);
    };
    add(short(d.end), ' instructions');
    add(duration(d.ns), ' guest time');
    if (d.users) add(group(d.users), d.users === 1 ? ' process' : ' processes');
    if (d.calls.total) add(group(d.calls.total), ' system calls');
    add('', d.stop);
    if (d.interrupted) facts.append(el('span', 'warn', ' \u00b7 interrupted: only the part up to there is shown'));
    facts.title = facts.textContent + (d.system ? '\n' + d.system : '') + (d.cmdline ? '\n' + d.cmdline : '');
  }
  legend() {
    const list = $('legend');
    list.textContent = '';
    const kinds = ['call', 'fault', 'interrupt', 'console', 'idle'];
    if (this.m.marks.n) kinds.push('mark');
    if (this.t.bookmarks.length) kinds.push('bookmark');
    for (const k of kinds) {
      if (k === 'call' && !this.m.calls.n) continue;
      const li = el('li'), i = el('i');
      i.style.background = this.t.colour(k);
      li.append(i, KINDS[k].name);
      list.append(li);
    }
  }
  setTheme(name) {
    document.documentElement.dataset.theme = this.t.theme = name;
    this.legend();
    this.t.draw();
    this.chose();
  }

  /* ---- console ---- */

  consoleLines() {
    const box = $('console'), s = this.m.console;
    if (!s.n) box.append(el('p', 'empty', 'The guest printed nothing.'));
    for (let i = 0; i < s.n; i++) {
      const line = el('div', 'line'), at = el('span', 'at', seconds(s.ns[i]));
      line.setAttribute('role', 'option');
      line.append(at, el('span', '', visible(this.m.s[s.raw.text[i]])));
      line.dataset.i = i;
      box.append(line);
    }
    if (this.m.d.console.all > s.n)
      box.append(el('p', 'empty', `${group(s.n)} of ${group(this.m.d.console.all)} lines are here; retro console prints all.`));
    box.addEventListener('click', e => {
      const line = e.target.closest('.line');
      if (line) this.chooseConsole(+line.dataset.i);
    });
    box.addEventListener('keydown', e => {
      if (e.key !== 'ArrowDown' && e.key !== 'ArrowUp' || !s.n) return;
      e.preventDefault();
      const c = this.t.chosen, now = c && c.series === s ? c.i : -1;
      this.chooseConsole(Math.min(Math.max(now + (e.key === 'ArrowDown' ? 1 : -1), 0), s.n - 1));
    });
  }
  chooseConsole(i) { this.t.choose({lane: this.t.laneOf('console'), series: this.m.console, i}); }
  syncConsole() {
    const t = this.t, c = t.chosen, s = this.m.console;
    const now = t.cursor === null ? this.m.limit(t.axis) : t.cursor, starts = s.starts(t.axis);
    let shown = null;
    for (const line of $('console').children) {
      if (line.dataset.i === undefined) continue;
      const i = +line.dataset.i, past = starts[i] <= now;
      line.classList.toggle('future', !past);
      const chosen = c && c.series === s && c.i === i;
      line.setAttribute('aria-selected', chosen ? 'true' : 'false');
      if (chosen || (past && t.cursor !== null)) shown = line;
    }
    if (shown) shown.scrollIntoView({block: 'nearest'});
  }

  /* ---- hover ---- */

  tip(what, x, y, v) {
    const tip = $('tip');
    if (!what || (!what.series && what.bookmark === undefined && v === null)) { tip.hidden = true; return; }
    tip.textContent = '';
    if (what.series) {
      const [title, text] = this.title(what.series, what.i);
      tip.append(el('b', '', title));
      if (text) tip.append(el('span', 'mono', text.slice(0, 240)));
      tip.append(el('span', 'when', this.when(what.series, what.i)));
    } else if (what.bookmark !== undefined) {
      tip.append(el('b', '', 'Bookmark'), el('span', 'when', group(this.t.bookmarks[what.bookmark])));
    } else {
      const at = this.m.convert(v, this.t.axis, 'at');
      const k = above(this.m.switches.at, at) - 1;
      if (k >= 0 && !this.m.switches.many(k)) tip.append(el('b', '', this.m.taskName(this.m.switches.task(k))));
      tip.append(el('span', 'when', `${seconds(this.m.convert(v, this.t.axis, 'ns'))}, instruction ${short(at)}`));
    }
    tip.hidden = false;
    const r = tip.getBoundingClientRect();
    tip.style.left = Math.min(x + 14, innerWidth - r.width - 8) + 'px';
    tip.style.top = (y + 18 + r.height > innerHeight ? y - r.height - 12 : y + 18) + 'px';
  }

  /* What a thing is called, and what more there is to say in a line. */
  title(s, i) {
    const m = this.m, r = s.raw, many = s.many(i);
    switch (s.kind) {
      case 'call':
        if (many) return [`${group(many)} system calls`, ''];
        return [`${m.s[r.name[i]]}`, `(${m.s[r.args[i]]}) = ${resultText(r.result[i])}`];
      case 'switch':
        return many ? [`${group(many)} switches`, ''] : [m.taskName(s.task(i)), 'runs'];
      case 'interrupt': {
        const name = `vector 0x${r.vector[i].toString(16).padStart(2, '0')}`;
        return many ? [`${group(many)} interrupts`, name] : [`Interrupt, ${name}`, `at ${m.s[r.rip[i]]}`];
      }
      case 'fault': {
        const name = EXCEPTIONS[r.vector[i]] || `exception ${r.vector[i]}`;
        if (many) return [`${group(many)} times ${name}`, ''];
        return [name[0].toUpperCase() + name.slice(1), (r.address[i] ? m.s[r.address[i]] : '') + ` at ${m.s[r.rip[i]]}`];
      }
      case 'console': return ['Printed', visible(m.s[r.text[i]])];
      case 'mark': return ['Mark', m.s[r.text[i]]];
      case 'input': return [m.s[r.what[i]], m.s[r.text[i]]];
      case 'exec': return ['exec ' + m.s[r.path[i]], m.s[r.args[i]]];
    }
    return [s.kind, ''];
  }
  when(s, i) {
    const length = s.endNs[i] - s.ns[i];
    return `${seconds(s.ns[i])}, instruction ${short(s.at[i])}${length ? ', for ' + duration(length) : ''}`;
  }

  /* ---- details ---- */

  chose() {
    const box = $('details'), c = this.t.chosen;
    box.textContent = '';
    if (c && c.series) this.describeThing(box, c.series, c.i);
    else if (c && c.about !== undefined) this.describeTask(box, c.about);
    else if (this.t.cursor !== null) this.describePlace(box, this.m.convert(this.t.cursor, this.t.axis, 'at'));
    else this.describeRun(box);
    this.syncConsole();
  }
  moved() { this.toAddress(); }
  say(text) {
    const p = el('p', 'note', text);
    $('details').prepend(p);
  }
  facts(box, list) {
    const dl = el('dl');
    for (const [k, v] of list) if (v !== undefined && v !== null && v !== '') dl.append(el('dt', '', k), el('dd', '', v));
    box.append(dl);
  }
  command(box, text) {
    const row = el('div', 'command'), copy = el('button', '', 'Copy');
    copy.title = 'Copy this command';
    copy.addEventListener('click', () => navigator.clipboard?.writeText(text).then(() => { copy.textContent = 'Copied'; }));
    row.append(el('code', '', text), copy);
    box.append(row);
  }
  describeRun(box) {
    const d = this.m.d;
    box.append(el('h3', '', 'This run'), el('p', 'sub', d.system || d.note || ''));
    this.facts(box, [['Instructions', group(d.end)], ['Guest time', seconds(d.ns)], ['Ended', d.stop],
      ['Memory', (d.memory / 1048576) + ' MiB'], ['Processes', d.users ? group(d.users) : ''],
      ['System calls', group(d.calls.total)], ['Interrupts', group(d.interrupts.total)],
      ['Exceptions', group(d.faults.total)], ['Switches', group(d.switches.total)]]);
    if (d.cmdline) { box.append(el('h4', '', 'Command line')); box.append(el('pre', '', d.cmdline)); }
    const busy = this.m.tasks.map((t, i) => [t, i]).filter(([t]) => t.tid && t.instructions)
      .sort((a, b) => b[0].instructions - a[0].instructions).slice(0, 12);
    if (busy.length) {
      box.append(el('h4', '', 'Most instructions'));
      const table = el('table'), head = el('tr');
      head.append(el('th', '', 'Process'), el('th', '', 'Instructions'), el('th', '', 'Share'));
      table.append(head);
      for (const [t, i] of busy) {
        const row = el('tr'), name = el('td'), chip = el('span', 'chip'), link = el('button', 'link', this.m.taskName(i));
        chip.style.background = this.t.taskColour(i);
        link.addEventListener('click', () => this.goTask(i));
        name.append(chip, link);
        row.append(name, el('td', '', short(t.instructions)), el('td', '', (100 * t.instructions / (d.end || 1)).toFixed(1) + ' %'));
        table.append(row);
      }
      box.append(table);
    }
    const cut = [['calls', 'system calls'], ['interrupts', 'interrupts'], ['faults', 'exceptions'], ['switches', 'switches']]
      .filter(([k]) => d[k].at.length < d[k].total).map(([, name]) => name);
    if (cut.length) {
      box.append(el('p', 'note', `Where there are too many ${cut.join(' and ')} to keep each, this page has neighbours put together. A page of a part of the run has more detail:`));
      this.command(box, `retro view --from ${Math.floor(d.end * .4)} --to ${Math.floor(d.end * .5)} ${d.arg}`);
    }
    box.append(el('p', 'note', 'Choose something in the timeline, or search, to see the state of the machine there.'));
  }
  goTask(i) {
    const lane = this.t.laneOf('call', i), t = this.m.tasks[i], ns = this.t.axis === 'ns';
    const a = ns ? t.startNs : t.start, b = t.end === null ? this.m.limit(this.t.axis) : ns ? t.endNs : t.end;
    const w = (b - a) * .1 || 1000;
    this.t.clamp(a - w, b + w);
    this.t.cursor = a;
    this.t.choose({lane, about: i});
    this.t.reveal();
    this.t.draw();
  }
  describeTask(box, i) {
    const t = this.m.tasks[i], m = this.m;
    const h = el('h3'), chip = el('span', 'chip');
    chip.style.background = this.t.taskColour(i);
    h.append(chip, m.s[t.comm]);
    box.append(h, el('p', 'sub', t.kernel ? 'kernel thread' : t.tid === t.pid ? `process ${t.pid}` : `thread ${t.tid} of process ${t.pid}`));
    if (t.args || t.exe) box.append(el('pre', '', m.s[t.args || t.exe]));
    const share = m.end ? (100 * t.instructions / m.end).toFixed(2) + ' %' : '';
    this.facts(box, [['Started', seconds(t.startNs)], ['Ended', t.end === null ? 'lived on' : seconds(t.endNs)],
      ['Exit', t.exit === null ? '' : t.exit & 127 ? `signal ${t.exit & 127}` : `status ${t.exit >> 8 & 255}`],
      ['Instructions', group(t.instructions)], ['of all', share], ['CPU time', duration(t.cpuNs)],
      ['System calls', group(t.nCalls)], ['Page faults', group(t.nFaults)], ['Switched to', group(t.nSwitches)]]);
    if (m.tasks[t.parent]) {
      box.append(el('h4', '', 'Parent'));
      const link = el('button', 'link', m.taskName(t.parent));
      link.addEventListener('click', () => this.goTask(t.parent));
      box.append(link);
    }
    box.append(el('h4', '', 'As text'));
    this.command(box, `retro syscalls --process ${t.pid} ${m.d.arg}`);
  }
  describeThing(box, s, i) {
    const m = this.m, [title, text] = this.title(s, i), r = s.raw, task = s.task(i);
    box.append(el('h3', '', title), el('p', 'sub', this.when(s, i)));
    if (text) box.append(el('pre', '', text));
    const list = [['Position', group(s.at[i])]];
    if (s.endAt[i] !== s.at[i]) list.push(['Lasted', `${group(s.endAt[i] - s.at[i])} instructions`], ['', duration(s.endNs[i] - s.ns[i])]);
    if (s.kind === 'fault' && !s.many(i)) list.push(['Error code', '0x' + r.error[i].toString(16)], ['From', r.user[i] ? 'user mode' : 'the kernel']);
    if (s.kind === 'interrupt' && !s.many(i)) list.push(['Interrupted', r.user[i] ? 'user mode' : 'the kernel']);
    this.facts(box, list);
    if (task >= 0 && m.tasks[task] && !s.many(i)) {
      box.append(el('h4', '', 'Process'));
      const link = el('button', 'link', m.taskName(task));
      link.addEventListener('click', () => this.goTask(task));
      box.append(link);
    }
    if (s.many(i)) {
      box.append(el('p', 'note', 'Neighbours were put together to keep this page small. All of them:'));
      const range = `--from ${Math.floor(s.at[i])} --to ${Math.ceil(s.endAt[i])}`;
      this.command(box, s.kind === 'call' ? `retro syscalls ${range} ${m.d.arg}` : `retro view ${range} ${m.d.arg}`);
      return;
    }
    this.describeState(box, s.at[i]);
  }
  describePlace(box, at) {
    const k = above(this.m.switches.at, at) - 1;
    box.append(el('h3', '', `Instruction ${group(at)}`), el('p', 'sub', seconds(this.m.convert(at, 'at', 'ns'))));
    if (k >= 0 && !this.m.switches.many(k)) this.facts(box, [['Running', this.m.taskName(this.m.switches.task(k))]]);
    this.describeState(box, Math.round(at));
  }
  /* The machine at a position: as sampled, or how to get it. */
  describeState(box, at) {
    const s = this.m.nearestState(at);
    if (s && s.at === at) {
      this.showState(box, s);
    } else {
      box.append(el('h4', '', 'State'), el('p', 'note', 'The state here was not sampled. This prints it:'));
    }
    this.command(box, `retro state --at ${Math.floor(at)} ${this.m.d.arg}`);
    this.command(box, `retro gdb --at ${Math.floor(at)} ${this.m.d.arg}`);
    if (s && s.at !== at) {
      const link = el('button', 'link', `Nearest sampled state: ${short(Math.abs(s.at - at))} instructions ${s.at < at ? 'before' : 'after'}`);
      link.addEventListener('click', () => this.goPosition(s.at));
      box.append(link);
    }
  }
  showState(box, s) {
    const m = this.m;
    if (s.stack && s.stack.length) {
      box.append(el('h4', '', 'Call stack'));
      const list = el('ol', 'stack');
      s.stack.forEach((f, i) => {
        const li = el('li'), name = m.s[f[0]];
        const known = name && !name.startsWith('('), what = el('span', '', known ? name : `${m.s[f[1]]} ${name}`);
        if (known) what.append(el('span', 'where', m.s[f[1]]));
        li.append(el('span', '', String(i)), what);
        list.append(li);
      });
      box.append(list);
    }
    if (s.code && s.code.length) {
      box.append(el('h4', '', 'Next instructions'));
      const pre = el('pre', 'insn');
      s.code.forEach((f, i) => pre.append(el('span', i ? 'addr' : 'now', m.s[f[0]]), el('span', i ? '' : 'now', m.s[f[1]])));
      box.append(pre);
    }
    box.append(el('h4', '', 'Registers'));
    const dl = el('dl', 'regs');
    s.regs.forEach((v, i) => dl.append(el('dt', '', m.d.regs[i]), el('dd', '', m.s[v])));
    box.append(dl);
  }

  /* ---- search ---- */

  find(text) {
    const m = this.m, found = [], limit = 60, needle = text.toLowerCase();
    const has = i => i !== undefined && m.s[i] && m.s[i].toLowerCase().includes(needle);
    const position = parsePosition(text);
    if (!isNaN(position) && position <= m.end) found.push({kind: 'go to', what: `instruction ${group(position)}`, at: position, go: () => this.goPosition(position)});
    m.tasks.forEach((t, i) => {
      if (t.tid && (has(t.comm) || has(t.args) || has(t.exe) || String(t.tid) === needle) && found.length < limit)
        found.push({kind: 'process', what: `${m.s[t.comm]} ${t.tid}${t.args ? '  ' + m.s[t.args] : ''}`, at: t.start, ns: t.startNs, go: () => this.goTask(i)});
    });
    const names = m.s.map(s => s.toLowerCase().includes(needle));
    const scan = (s, kind, test, what) => {
      for (let i = 0, n = 0; i < s.n && found.length < limit && n < 40; i++) {
        if (s.many(i) || !test(i)) continue;
        n++;
        found.push({kind, what: what(i), at: s.at[i], ns: s.ns[i], go: () => this.goThing(s, i)});
      }
    };
    scan(m.marks, 'mark', i => names[m.marks.raw.text[i]], i => m.s[m.marks.raw.text[i]]);
    scan(m.console, 'console', i => names[m.console.raw.text[i]], i => visible(m.s[m.console.raw.text[i]]));
    scan(m.inputs, 'input', i => names[m.inputs.raw.text[i]] || names[m.inputs.raw.what[i]], i => `${m.s[m.inputs.raw.what[i]]} ${m.s[m.inputs.raw.text[i]]}`);
    for (const [series, kind] of [[m.faults, 'exception'], [m.interrupts, 'interrupt']])
      scan(series, kind, i => this.title(series, i).join(' ').toLowerCase().includes(needle), i => this.title(series, i).join(' '));
    scan(m.calls, 'call', i => names[m.calls.raw.name[i]] || names[m.calls.raw.args[i]], i => `${m.s[m.calls.raw.name[i]]}(${m.s[m.calls.raw.args[i]]})`);
    return found;
  }
  goThing(s, i) { this.t.choose({lane: this.t.laneOf(s.kind, s.task(i)), series: s, i}, s.kind === 'call'); }
  goPosition(at) {
    this.t.cursor = this.m.convert(at, 'at', this.t.axis);
    this.t.center(this.t.cursor);
    this.t.chosen = null;
    this.t.draw();
    const box = $('details');
    box.textContent = '';
    this.describePlace(box, at);
    this.syncConsole();
  }
  searched() {
    const text = $('search').value, box = $('results');
    box.textContent = '';
    this.found = text.trim() ? this.find(text.trim()) : [];
    this.picked = 0;
    box.hidden = !text.trim();
    $('search').setAttribute('aria-expanded', String(!box.hidden));
    if (!this.found.length) box.append(el('div', 'none', 'Nothing in this run matches.'));
    this.found.forEach((f, i) => {
      const row = el('div', 'result');
      row.id = 'result-' + i;
      row.setAttribute('role', 'option');
      row.append(el('span', 'kind', f.kind), el('span', 'what', f.what.slice(0, 200)), el('span', 'when', f.ns === undefined ? '' : seconds(f.ns)));
      row.addEventListener('mousedown', e => { e.preventDefault(); this.picked = i; this.take(); });
      box.append(row);
    });
    this.markPicked();
  }
  markPicked() {
    [...$('results').querySelectorAll('.result')].forEach((r, i) => {
      r.setAttribute('aria-selected', String(i === this.picked));
      if (i === this.picked) { r.scrollIntoView({block: 'nearest'}); $('search').setAttribute('aria-activedescendant', r.id); }
    });
  }
  take() {
    const f = this.found && this.found[this.picked];
    if (!f) return;
    this.closeSearch();
    f.go();
  }
  closeSearch() {
    $('results').hidden = true;
    $('search').setAttribute('aria-expanded', 'false');
    this.t.canvas.focus();
  }

  /* ---- bookmarks, kept in the address ---- */

  bookmark() {
    if (this.t.cursor === null) return this.say('Choose a place first: a bookmark is put where the line stands.');
    const at = Math.round(this.m.convert(this.t.cursor, this.t.axis, 'at'));
    const near = this.t.bookmarks.indexOf(at);
    if (near >= 0) this.t.bookmarks.splice(near, 1);
    else this.t.bookmarks.push(at);
    this.t.bookmarks.sort((a, b) => a - b);
    this.rebuild();
    this.toAddress();
    this.say(near >= 0 ? 'Bookmark taken away.' : `Bookmark at instruction ${group(at)}; it is kept in this page's address.`);
  }
  rebuild() {
    const name = this.t.lanes[this.t.lane];
    this.t.build();
    const same = l => name && l.type === name.type && l.series === name.series && l.task === name.task;
    this.t.lane = Math.max(0, this.t.lanes.findIndex(same));
    if (this.t.chosen) this.t.chosen.lane = this.t.lanes[this.t.lane];
    this.legend();
    this.t.draw();
  }
  toAddress() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      const b = this.t.bookmarks.length ? '#b=' + this.t.bookmarks.join(',') : '#';
      if (location.hash !== b && (location.hash || b !== '#')) history.replaceState(null, '', b);
    }, 200);
  }
  fromAddress() {
    const m = /^#b=([0-9,]+)$/.exec(location.hash);
    this.t.bookmarks = m ? m[1].split(',').map(Number).filter(v => v <= this.m.end).slice(0, 200) : [];
    this.t.build();
  }

  /* ---- keys ---- */

  listen() {
    $('axis-time').addEventListener('click', () => this.setAxis('ns'));
    $('axis-count').addEventListener('click', () => this.setAxis('at'));
    $('theme').addEventListener('click', () => this.flipTheme());
    $('help').addEventListener('click', () => $('keys').showModal());
    $('keys-close').addEventListener('click', () => $('keys').close());
    const search = $('search');
    search.addEventListener('input', () => this.searched());
    search.addEventListener('focus', () => { if (search.value.trim()) this.searched(); });
    search.addEventListener('blur', () => { $('results').hidden = true; });
    search.addEventListener('keydown', e => {
      const n = this.found ? this.found.length : 0;
      if (e.key === 'ArrowDown' && n) this.picked = (this.picked + 1) % n;
      else if (e.key === 'ArrowUp' && n) this.picked = (this.picked + n - 1) % n;
      else if (e.key === 'Enter') this.take();
      else if (e.key === 'Escape') { search.value = ''; this.closeSearch(); }
      else return;
      e.preventDefault();
      this.markPicked();
    });
    document.addEventListener('keydown', e => this.key(e));
  }
  setAxis(axis) {
    $('axis-time').setAttribute('aria-pressed', String(axis === 'ns'));
    $('axis-count').setAttribute('aria-pressed', String(axis === 'at'));
    this.t.setAxis(axis);
  }
  flipTheme() {
    const name = this.t.theme === 'dark' ? 'light' : 'dark';
    localStorage_('retro-theme', name);
    this.setTheme(name);
  }
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === 'INPUT' || $('keys').open) return;
    const t = this.t, onLanes = document.activeElement === t.canvas || document.activeElement === document.body;
    const anywhere = {
      '/': () => { $('search').focus(); $('search').select(); }, '?': () => $('keys').showModal(), 't': () => this.setAxis(t.axis === 'ns' ? 'at' : 'ns'),
      'd': () => this.flipTheme(), '0': () => t.fit(), '+': () => t.zoom(.5, this.around()), '=': () => t.zoom(.5, this.around()),
      '-': () => t.zoom(2, this.around()), '[': () => t.step(-1), ']': () => t.step(1), 'b': () => this.bookmark(),
      'z': () => { if (t.chosen && t.chosen.series) t.choose(t.chosen, true); },
      'Escape': () => { t.cursor = null; t.choose(null); },
    };
    const lanes = {
      'ArrowLeft': () => t.pan(e.shiftKey ? -1 : -.1), 'ArrowRight': () => t.pan(e.shiftKey ? 1 : .1),
      'ArrowUp': () => t.stepLane(-1), 'ArrowDown': () => t.stepLane(1),
      'Home': () => t.show(this.m.origin(t.axis), this.m.origin(t.axis) + t.view[1] - t.view[0]),
      'End': () => t.show(this.m.limit(t.axis) - t.view[1] + t.view[0], this.m.limit(t.axis)),
      'Enter': () => { if (!t.chosen || !t.chosen.series) t.step(1); $('side').focus(); },
    };
    const action = anywhere[e.key] || (onLanes && lanes[e.key]);
    if (!action) return;
    e.preventDefault();
    action();
  }
  /* Zooming by keys keeps the line in place, if it is in view. */
  around() {
    const [a, b] = this.t.view, c = this.t.cursor;
    return c !== null && c >= a && c <= b ? c : (a + b) / 2;
  }
}

/* Control characters of a guest's text, shown as what they are. */
function visible(text) {
  return text.replace(/\r?\n$/, '').replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, c => {
    const code = c.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : '\ufffd';
  });
}

/* A file's storage may be forbidden. */
function localStorage_(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch { /* the choice is not kept */ }
  return null;
}

unpack().then(d => { window.retro = new App(new Model(d)); },
  e => { $('details').append(el('h3', 'warn', 'This page is damaged'), el('p', '', String(e))); });
