// One chart: what plotly.js draws of it, its legend, its cursor and its table.

const SVG = "http://www.w3.org/2000/svg";
const TABLE_ROWS = 120;
// Of measured points, where several series have them: as plotly.js calls it, and as the legend draws it.
const MARKS = [
  ["circle", "M15 1.5a3.5 3.5 0 1 0 .01 0z"],
  ["square", "M11.5 1.5h7v7h-7z"],
  ["diamond", "M15 .5l4.5 4.5-4.5 4.5-4.5-4.5z"],
  ["triangle-up", "M15 1l4 7.5h-8z"],
  ["cross", "M13.5 1h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z"],
];

// What can be held and what cannot have marks of their own; other series go by their place.
function markOf(chart, place) {
  const points = chart.lines.filter((line) => line.look === "points");
  const told = chart.lines.some((line) => line.strong) || points.length < 2;
  return told ? undefined : MARKS[points.indexOf(chart.lines[place]) % MARKS.length];
}

// The colour, stroke and width of each line, by its place among those that are no limits.
function strokes(chart) {
  const colours = theme();
  let next = 0;
  return chart.lines.map((line) => {
    if (line.look === "limit") return { colour: colours.soft, dash: "dash", width: 1.5 };
    if (line.look === "steps") return { colour: colours.neutral, dash: "solid", width: 1.25 };
    if (line.look === "culprit") return { colour: colours.series[1], dash: "solid", width: 2.75 };
    // The second colour is that of what gives out first, where something does.
    if (next === 1 && chart.lines.some((line) => line.look === "culprit")) next++;
    const place = next++ % colours.series.length;
    if (line.look === "curve") return { colour: colours.soft, dash: "dash", width: 1.5 };
    if (line.look === "star") return { colour: colours.series[1], dash: "solid", width: 1.5 };
    const dash = line.look === "bars" || line.look === "points" ? "solid" : STROKES[place];
    return { colour: colours.series[place], dash, width: line.strong ? 2.25 : 1.4 };
  });
}

function faded(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return "rgba(" + [r, g, b, alpha].join(",") + ")";
}

class View {
  constructor(figure, run, chart) {
    this.figure = figure;
    this.run = run;
    this.chart = chart;
    this.plot = figure.querySelector(".plot");
    this.timed = chart.across === "time";
    this.shown = chart.lines.map((line) => !line.hidden);
    this.drawn = false;
    this.stale = false;
    this.makeLegend();
    this.makeFrame();
    const details = figure.querySelector("details.data");
    details.addEventListener("toggle", () => details.open && this.makeTable(details));
  }

  x(line) {
    return line.axis === undefined ? line.x : this.run.timeline.axes[line.axis];
  }

  // The legend: a button per series. A click shows or hides it, a double click shows it alone, or all again.

  makeLegend() {
    const legend = this.figure.querySelector(".legend");
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Series of " + this.chart.title);
    this.values = [];
    this.buttons = this.chart.lines.map((line, place) => {
      const sample = document.createElementNS(SVG, "svg");
      sample.setAttribute("viewBox", "0 0 30 10");
      sample.setAttribute("aria-hidden", "true");
      const name = element("bdi", {}, line.name);
      const value = element("span", { class: "at" });
      const button = element("button", { type: "button" }, sample, name, value);
      button.title = "Click: show or hide. Double click: this one alone.";
      button.addEventListener("click", () => this.toggle(place));
      button.addEventListener("dblclick", () => this.isolate(place));
      this.values.push(value);
      legend.append(button);
      return button;
    });
    this.paintLegend();
  }

  paintLegend() {
    const all = strokes(this.chart);
    this.buttons.forEach((button, place) => {
      const { colour, dash, width } = all[place];
      const look = this.chart.lines[place].look;
      const sample = button.querySelector("svg");
      sample.replaceChildren();
      const draw = (tag, attributes) => {
        const shape = document.createElementNS(SVG, tag);
        for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
        sample.append(shape);
      };
      if (look === "points") {
        const strong = this.chart.lines[place].strong;
        const mark = markOf(this.chart, place);
        if (mark) draw("path", { d: mark[1], fill: colour });
        else if (strong) draw("circle", { cx: 15, cy: 5, r: 3.5, fill: colour });
        else draw("path", { d: "M11.5 1.5l7 7m0-7l-7 7", stroke: colour, "stroke-width": 2 });
      } else if (look === "star") {
        draw("path", { d: "M15 0l1.5 3.3 3.6.4-2.7 2.4.8 3.5-3.2-1.8-3.2 1.8.8-3.5-2.7-2.4 3.6-.4z", fill: colour });
      } else if (look === "bars") {
        draw("path", { d: "M8 10V4M13 10V1M18 10V6M23 10V3", stroke: colour, "stroke-width": 2.5 });
      } else if (look === "steps") {
        draw("path", { d: "M0 10V7H10V4H20V2H30V10z", fill: faded(colour, 0.3), stroke: colour, "stroke-width": 1 });
      } else {
        const dashes = DASHES[dash] === undefined ? dash.replaceAll("px", "") : DASHES[dash];
        draw("path", { d: "M0 5H30", stroke: colour, "stroke-width": width + 0.5, "stroke-dasharray": dashes });
      }
      button.setAttribute("aria-pressed", String(this.shown[place]));
    });
  }

  toggle(place) {
    this.shown[place] = !this.shown[place];
    this.showSeries();
  }

  isolate(place) {
    // The two clicks before have shown and hidden it.
    const alone = this.shown.every((shown, other) => shown === (other === place));
    this.shown = this.shown.map((_, other) => alone || other === place);
    this.showSeries();
  }

  showSeries() {
    this.buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(this.shown[place])));
    if (!this.drawn) return;
    Plotly.restyle(this.plot, { visible: this.shown });
  }

  // The frame around the drawing: the cursor, and what it says.

  makeFrame() {
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.plot.setAttribute("aria-roledescription", "chart");
    this.plot.setAttribute("aria-label", this.chart.title + ". " + this.summary());
    this.cursor = element("div", { class: "cursor", hidden: "" });
    this.readout = element("div", { class: "readout", hidden: "" });
    this.plot.after(this.cursor, this.readout);
    const from = (event) => {
      const axis = this.axis();
      if (!axis) return undefined;
      const x = axis.p2d(event.clientX - this.plot.getBoundingClientRect().left - axis._offset);
      return x >= axis.range[0] && x <= axis.range[1] ? x : undefined;
    };
    this.plot.addEventListener("pointermove", (event) => pointAt(this, from(event)));
    this.plot.addEventListener("pointerdown", (event) => pointAt(this, from(event)));
    this.plot.addEventListener("pointerleave", () => pointAt(this, undefined));
    this.plot.addEventListener("blur", () => pointAt(this, undefined));
    this.plot.addEventListener("keydown", (event) => this.key(event));
  }

  // In words, for those who do not see it.
  summary() {
    if (this.chart.heat) return "A map of counts. Its table is below.";
    const parts = this.chart.lines.slice(0, 6).map((line) => {
      const values = line.y.filter((value) => value !== null);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return line.name + " from " + withUnit(low, line.unit) + " to " + withUnit(high, line.unit);
    });
    return parts.join("; ") + ". Arrow keys move a cursor.";
  }

  key(event) {
    const axis = this.axis();
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") pointAt(this, undefined);
    if (!axis || !step) return;
    event.preventDefault();
    const [from, to] = axis.range;
    const at = this.at === undefined ? (from + to) / 2 : this.at + (step * (to - from)) / 100;
    pointAt(this, Math.min(to, Math.max(from, at)));
    const said = this.instant(this.at).map(([, name, value]) => name + " " + value);
    document.getElementById("spoken").textContent = this.place(this.at) + ": " + said.join(", ");
  }

  axis() {
    return this.drawn && this.plot._fullLayout ? this.plot._fullLayout.xaxis : undefined;
  }

  place(x) {
    if (this.timed) return moment(x);
    if (this.chart.across === "share") return share(x);
    return figure(x) + " " + this.chart.across_title;
  }

  nearest(xs, x) {
    let [low, high] = [0, xs.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle;
      else high = middle;
    }
    return x - xs[low] <= xs[high] - x ? low : high;
  }

  // Name and value of every series shown at that place.
  instant(x) {
    if (this.chart.heat) return this.heatAt(x);
    return this.chart.lines.flatMap((line, place) => {
      const xs = this.x(line);
      if (!this.shown[place] || !xs.length) return [];
      let at;
      if (this.chart.across === "level" && line.look !== "curve") {
        // Levels come in the order of time.
        at = xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
      } else {
        at = this.nearest(xs, x);
      }
      let text = withUnit(line.y[at], line.unit);
      if (line.low && line.low[at] !== null && line.low[at] !== undefined) {
        text += " (" + figure(line.low[at]) + "–" + figure(line.high[at]) + ")";
      }
      if (this.chart.across === "level") text += " at " + figure(xs[at]);
      if (line.notes) text += ", " + line.notes[at];
      return [[place, line.name, text]];
    });
  }

  heatAt(x) {
    const { heat } = this.chart;
    const column = heat.columns[Math.floor(x / heat.seconds)];
    if (!column || column.length < 2) return [[-1, "ended", "0"]];
    const counts = column.slice(1);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const most = counts.indexOf(Math.max(...counts)) + column[0] + heat.first;
    const bound = (row) => milliseconds(1000 * 10 ** (row / heat.per_decade));
    return [[-1, "ended", figure(total)], [-1, "most took", bound(most) + " to " + bound(most + 1)]];
  }

  // Shows the cursor there; the one that is pointed at also gets a box with the values.
  point(x, pointed) {
    this.at = x;
    const axis = x === undefined ? undefined : this.axis();
    const inside = axis && x >= axis.range[0] && x <= axis.range[1];
    this.cursor.hidden = !inside;
    this.readout.hidden = !inside || !pointed;
    if (!inside) {
      this.values.forEach((value) => (value.textContent = ""));
      return;
    }
    const left = axis._offset + axis.d2p(x);
    const { t, h } = this.plot._fullLayout._size;
    this.cursor.style.transform = "translate(" + left + "px," + (this.plot.offsetTop + t) + "px)";
    this.cursor.style.height = h + "px";
    const instant = this.instant(x);
    for (const [place, , text] of instant) if (place >= 0) this.values[place].textContent = text;
    if (!pointed) return;
    const colours = strokes(this.chart);
    this.readout.replaceChildren(element("b", {}, this.place(x)));
    for (const [place, name, text] of instant) {
      const swatch = element("i", {});
      if (place >= 0) swatch.style.background = colours[place].colour;
      this.readout.append(element("div", {}, swatch, element("bdi", {}, name), element("span", {}, text)));
    }
    const room = this.plot.clientWidth;
    const side = left > room / 2 ? left - this.readout.offsetWidth - 14 : left + 14;
    const within = Math.max(0, Math.min(room - this.readout.offsetWidth, side));
    this.readout.style.transform = "translate(" + within + "px," + (this.plot.offsetTop + t + 6) + "px)";
  }

  // The table: the same numbers, fewer of them in long runs.

  makeTable(details) {
    details.querySelector(".scroll")?.remove();
    const rows = this.chart.heat ? this.heatRows() : this.rows();
    const [head, ...body] = rows;
    const cells = (row, tag) => row.map((text, place) =>
      element(place ? tag : "th", { scope: tag === "th" ? "col" : "row" }, text));
    const table = element("table", {},
      element("caption", {}, this.chart.title),
      element("thead", {}, element("tr", {}, ...cells(head, "th"))),
      element("tbody", {}, ...body.map((row) => element("tr", {}, ...cells(row, "td")))));
    table.querySelectorAll("td").forEach((cell) => cell.removeAttribute("scope"));
    const label = "Table of " + this.chart.title;
    details.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table));
  }

  rows() {
    const main = this.chart.lines.reduce((one, other) => (this.x(other).length > this.x(one).length ? other : one));
    let xs = this.chart.across === "level" ? this.chart.lines.flatMap((line) => (line.look === "curve" ? [] : this.x(line)))
      : this.x(main);
    if (this.chart.across === "level") xs = [...new Set(xs)].sort((one, other) => one - other);
    if (this.timed && this.run.range) xs = xs.filter((x) => x >= this.run.range[0] && x <= this.run.range[1]);
    const step = Math.max(1, Math.ceil(xs.length / TABLE_ROWS));
    const kept = xs.filter((_, place) => place % step === 0);
    const head = [this.timed ? "time" : this.chart.across_title, ...this.chart.lines.map((line) => line.name)];
    const values = (x) => this.chart.lines.map((line) => {
      const own = this.x(line);
      const at = this.chart.across === "level" && line.look !== "curve" ? own.indexOf(x) : this.nearest(own, x);
      return at < 0 ? "–" : withUnit(line.y[at], line.unit);
    });
    return [head, ...kept.map((x) => [this.place(x), ...values(x)])];
  }

  heatRows() {
    const { heat } = this.chart;
    const step = Math.max(1, Math.ceil(heat.columns.length / TABLE_ROWS));
    const columns = heat.columns.map((_, place) => place).filter((place) => place % step === 0);
    return [["time", "ended", "most took"], ...columns.map((place) => {
      const x = (place + 0.5) * heat.seconds;
      const said = this.heatAt(x);
      return [moment(place * heat.seconds), said[0][2], said[1] ? said[1][2] : "–"];
    })];
  }

  // Drawing.

  draw(width) {
    if (!window.Plotly) return;
    const layout = this.layout(width || this.plot.clientWidth);
    if (width) layout.width = width;
    const options = { displayModeBar: false, responsive: false, doubleClick: false, scrollZoom: false };
    const first = !this.drawn;
    Plotly[first ? "newPlot" : "react"](this.plot, this.traces(), layout, options);
    this.drawn = true;
    this.stale = false;
    if (!first) return;
    if (this.timed) {
      this.plot.on("plotly_relayout", (change) => {
        if (change["xaxis.range[0]"] !== undefined) zoom(this.run, [change["xaxis.range[0]"], change["xaxis.range[1]"]]);
      });
      this.plot.on("plotly_doubleclick", () => zoom(this.run, undefined));
    }
  }

  traces() {
    if (this.chart.heat) return [this.heatTrace()];
    const colours = theme();
    const all = strokes(this.chart);
    return this.chart.lines.map((line, place) => {
      const { colour, dash, width } = all[place];
      const trace = {
        type: "scatter", mode: "lines", x: this.x(line), y: line.y, hoverinfo: "skip", showlegend: false,
        visible: this.shown[place], connectgaps: line.look === "limit",
        line: { color: colour, dash, width, simplify: true },
      };
      if (line.right) trace.yaxis = "y2";
      if (line.look === "steps") {
        Object.assign(trace, { fill: "tozeroy", fillcolor: faded(colour, 0.14) });
        trace.line.shape = "hv";
      }
      if (line.look === "bars") {
        Object.assign(trace, { type: "bar", marker: { color: colour, line: { width: 0 } } });
        delete trace.line;
        delete trace.mode;
        delete trace.connectgaps;
      }
      if (this.chart.across === "level" && line.look === "line") {
        trace.mode = "lines+markers";
        trace.marker = { size: 6, symbol: ["circle", "square", "diamond"][place % 3] };
      }
      if (line.look === "points" || line.look === "star") {
        trace.mode = "markers";
        const mark = line.look === "points" && markOf(this.chart, place);
        const symbol = line.look === "star" ? "star" : mark ? mark[0] : line.strong ? "circle" : "x-thin";
        const size = line.look === "star" ? 15 : 8;
        const filled = mark || line.strong;
        trace.marker = { color: colour, size, symbol, line: { color: filled ? colours.ground : colour, width: filled ? 1 : 2 } };
        if (line.low) {
          const spread = (ends, sign) => ends.map((end, at) => (end === null ? 0 : Math.max(0, sign * (end - line.y[at]))));
          trace.error_y = {
            type: "data", symmetric: false, array: spread(line.high, 1), arrayminus: spread(line.low, -1),
            color: faded(colour, 0.7), thickness: 1.2, width: 3,
          };
        }
      }
      return trace;
    });
  }

  heatTrace() {
    const { heat } = this.chart;
    // Empty cells stay empty; the scale is that of logarithms, or a single slow answer would not be seen.
    const z = Array.from({ length: heat.rows }, () => new Array(heat.columns.length).fill(null));
    heat.columns.forEach((column, at) => {
      for (let place = 1; place < column.length; place++) {
        const row = z[column[0] + place - 1];
        if (row && column[place] > 0) row[at] = Math.log10(column[place] / heat.seconds + 1);
      }
    });
    return {
      type: "heatmap", z, x0: heat.seconds / 2, dx: heat.seconds, y0: (heat.first + 0.5) / heat.per_decade,
      dy: 1 / heat.per_decade, colorscale: theme().heat, showscale: false, hoverinfo: "skip", zsmooth: false,
    };
  }

  extent(right) {
    let [low, high] = [Infinity, -Infinity];
    this.chart.lines.forEach((line) => {
      if (Boolean(line.right) !== right) return;
      for (const values of [line.y, line.low || [], line.high || []]) {
        for (const value of values) {
          if (value === null) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    });
    return [low, high];
  }

  vertical(axis, right) {
    const colours = theme();
    const [low, high] = this.extent(right);
    const made = {
      fixedrange: true, zeroline: false, gridcolor: colours.grid, linecolor: colours.grid, automargin: false,
      tickfont: { color: colours.soft, size: 11 }, nticks: 5,
    };
    if (axis.log && high > 0) {
      const decades = Math.log10(high / low) + 0.3;
      const [from, to] = [low / 1.15, high * (this.timed ? 10 ** (decades * 0.17) : 1.15)];
      const ticks = logTicks(from, high * 1.15);
      Object.assign(made, {
        type: "log", range: [Math.log10(from), Math.log10(to)], tickvals: ticks, ticktext: ticks.map((tick) => withUnit(tick, axis.unit)),
      });
    } else {
      const top = Math.max(high, axis.at_least || 0);
      // Above there is room for the names of phases and moments.
      const room = this.timed && this.run.timeline.phases.length + this.run.timeline.marks.length ? 1.24 : 1.08;
      made.range = [0, top > 0 && Number.isFinite(top) ? top * room : 1];
      made.ticksuffix = axis.unit === "%" || axis.unit === "ms" ? " " + axis.unit : "";
      made.separatethousands = true;
    }
    if (right) Object.assign(made, { overlaying: "y", side: "right", showgrid: false });
    return made;
  }

  layout(width) {
    const colours = theme();
    const { chart } = this;
    const small = width < 480;
    const caption = (text, x, anchor) => ({
      text, x, xref: "paper", xanchor: anchor, y: 1, yref: "paper", yanchor: "bottom", yshift: 4, showarrow: false,
      font: { size: 11, color: colours.soft },
    });
    const title = (axis) => axis.title + (axis.unit && axis.unit !== "ms" && axis.unit !== "%" ? ", " + axis.unit : "");
    const layout = {
      // Charts below each other have their time at the same place; those side by side use all of their width.
      margin: { l: small ? 46 : 58, r: chart.half && !chart.right ? 14 : small ? 34 : 58, t: 24, b: 30 }, height: this.plot.clientHeight || 240,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: false,
      font: { family: FONT, size: 12, color: colours.soft }, bargap: 0, separators: ".,",
      dragmode: this.timed && !matchMedia("(pointer: coarse)").matches ? "zoom" : false,
      annotations: [], shapes: [],
      xaxis: {
        zeroline: false, gridcolor: colours.grid, linecolor: colours.grid, fixedrange: !this.timed,
        tickfont: { color: colours.soft, size: 11 }, showgrid: !this.timed,
      },
    };
    if (chart.heat) {
      const { heat } = chart;
      const ends = [heat.first / heat.per_decade, (heat.first + heat.rows) / heat.per_decade];
      const ticks = logTicks(10 ** ends[0] * 1000, 10 ** ends[1] * 1000);
      layout.yaxis = {
        fixedrange: true, zeroline: false, gridcolor: colours.grid, range: ends, tickfont: { color: colours.soft, size: 11 },
        tickvals: ticks.map((tick) => Math.log10(tick / 1000)), ticktext: ticks.map(milliseconds),
      };
    } else {
      layout.yaxis = this.vertical(chart.left, false);
      if (chart.right && this.chart.lines.some((line) => line.right)) {
        layout.yaxis2 = this.vertical(chart.right, true);
        layout.annotations.push(caption(title(chart.right), 1, "right"));
      }
    }
    layout.annotations.push(caption(title(chart.left), 0, "left"));
    if (this.timed) {
      Object.assign(layout.xaxis, { range: range(this.run) }, timeTicks(range(this.run), width));
      this.annotate(layout, width);
    } else if (chart.across === "share") {
      const most = Math.max(1, ...chart.lines.map((line) => line.x[line.x.length - 1] || 0));
      const ticks = [0, Math.log10(2), ...Array.from({ length: Math.floor(most) }, (_, nines) => nines + 1)];
      Object.assign(layout.xaxis, { range: [0, most * 1.02], tickvals: ticks, ticktext: ticks.map(share) });
    } else {
      const xs = chart.lines.flatMap((line) => line.x);
      layout.xaxis.range = [0, Math.max(1, ...xs) * 1.05];
      layout.xaxis.title = { text: chart.across_title, font: { size: 11, color: colours.soft }, standoff: 4 };
      layout.margin.b = 40;
    }
    return layout;
  }

  // Phases and moments.
  annotate(layout, width) {
    const colours = theme();
    const { phases, marks, end } = this.run.timeline;
    const perSecond = (width - layout.margin.l - layout.margin.r) / Math.max(1, end);
    let free = -Infinity;
    phases.forEach((phase) => {
      const fill = phase.name === "confirm" ? colours.confirm : phase.name === "search" ? colours.phase : "rgba(0,0,0,0)";
      layout.shapes.push({
        type: "rect", x0: phase.from, x1: phase.to, y0: 0, y1: 1, yref: "paper", fillcolor: fill, layer: "below",
        line: { width: 0 },
      });
      layout.shapes.push({
        type: "line", x0: phase.from, x1: phase.from, y0: 0, y1: 1, yref: "paper", layer: "below",
        line: { width: 1, color: colours.grid },
      });
      if (phase.from * perSecond < free || (phase.to - phase.from) * perSecond < 12) return;
      free = phase.from * perSecond + phase.name.length * 7 + 6;
      layout.annotations.push({
        text: phase.name, x: phase.from, xanchor: "left", xshift: 3, y: 1, yref: "paper", yanchor: "top", showarrow: false,
        font: { size: 10.5, color: colours.soft },
      });
    });
    marks.forEach((mark, place) => {
      const far = (end - mark.at) * perSecond < 90;
      layout.shapes.push({
        type: "line", x0: mark.at, x1: mark.at, y0: 0, y1: 1, yref: "paper",
        line: { width: 1.4, color: colours.mark, dash: mark.name === "capacity" ? "solid" : "dot" },
      });
      layout.annotations.push({
        text: (mark.name === "capacity" ? "★ " : "✕ ") + mark.name, x: mark.at, xanchor: far ? "right" : "left",
        xshift: far ? -3 : 3, y: 1, yref: "paper", yanchor: "top", yshift: -13 - 13 * (place % 2), showarrow: false,
        font: { size: 11, color: colours.mark }, bgcolor: faded(colours.ground, 0.75),
      });
    });
  }
}

function share(nines) {
  const percent = 100 - 100 * 10 ** -nines;
  const digits = Math.max(0, Math.ceil(nines - 2 - 1e-9));
  return percent.toFixed(Math.abs(nines - Math.round(nines)) < 0.01 ? digits : digits + 1).replace(/\.0+$/, "") + " %";
}
