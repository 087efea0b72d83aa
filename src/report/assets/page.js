// The page: draws charts when they come into sight, keeps those of a run at the same time, and prints them.

const runs = JSON.parse(document.getElementById("data").textContent);
const PRINT_WIDTH = 690;
let views = [];
let folded = [];

const range = (run) => run.range || [0, Math.max(1, run.timeline.end)];

// A cursor at the same moment in all charts of the run; elsewhere in one chart alone.
function pointAt(view, x) {
  const others = view.timed ? view.run.views.filter((other) => other.timed) : [view];
  for (const other of others) if (other.drawn) other.point(x, other === view);
}

// Charts in sight follow at once, the others when they come into sight.
function zoom(run, wanted) {
  const { end } = run.timeline;
  if (wanted) {
    const [from, to] = [Math.max(0, wanted[0]), Math.min(end, wanted[1])];
    run.range = to - from > 0.5 && to - from < end * 0.999 ? [from, to] : undefined;
  } else {
    run.range = undefined;
  }
  for (const view of run.views) {
    if (!view.timed || !view.drawn) continue;
    view.point(undefined, false);
    if (view.visible) follow(view);
    else view.stale = true;
  }
  run.zooms.forEach((tell) => tell());
}

function follow(view) {
  view.stale = false;
  const now = range(view.run);
  const ticks = timeTicks(now, view.plot.clientWidth);
  Plotly.relayout(view.plot, { "xaxis.range": [...now], "xaxis.tickvals": ticks.tickvals, "xaxis.ticktext": ticks.ticktext });
}

// The buttons above charts over time: the phases of the run, closer, wider.
function makeZoom(box, run) {
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Time shown in all charts");
  const buttons = [];
  const add = (name, label, from) => {
    const button = element("button", { type: "button", "aria-label": label }, name);
    button.addEventListener("click", () => zoom(run, from()));
    buttons.push([button, from, name]);
    box.append(button);
  };
  add("Whole run", "Show the whole run", () => undefined);
  const { phases } = run.timeline;
  for (const name of new Set(phases.map((phase) => phase.name))) {
    const own = phases.filter((phase) => phase.name === name);
    // Of several the last: it has the answer.
    const from = name === "search" ? own[0] : own[own.length - 1];
    add(name, "Show the phase " + name, () => [from.from, own[own.length - 1].to]);
  }
  const by = (factor) => () => {
    const [from, to] = range(run);
    const [middle, half] = [(from + to) / 2, ((to - from) / 2) * factor];
    return [middle - half, middle + half];
  };
  const move = (share) => () => {
    const [from, to] = range(run);
    const by = Math.max(-from, Math.min(run.timeline.end - to, (to - from) * share));
    return [from + by, to + by];
  };
  add("+", "Zoom in", by(0.5));
  add("−", "Zoom out", by(2));
  add("‹", "Earlier", move(-0.5));
  add("›", "Later", move(0.5));
  const told = element("span", {});
  box.append(told);
  run.zooms.push(() => {
    const [from, to] = range(run);
    told.textContent = run.range ? moment(from) + " to " + moment(to) : "drag across a chart to zoom";
  });
}

function makeViews() {
  for (const run of runs) Object.assign(run, { views: [], zooms: [], range: undefined });
  for (const figure of document.querySelectorAll("figure.chart")) {
    const run = runs[figure.dataset.run];
    const view = new View(figure, run, run.charts[figure.dataset.chart]);
    run.views.push(view);
    views.push(view);
  }
  for (const box of document.querySelectorAll(".zoom")) makeZoom(box, runs[box.dataset.run]);
  for (const run of runs) run.zooms.forEach((tell) => tell());
  for (const box of document.querySelectorAll(".table")) {
    new Sortable(box, runs[box.dataset.run].tables[box.dataset.table]);
  }
}

// The answer, its figures and the tables are to be seen before the browser is busy with plotly.js.
function painted() {
  return new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
    // A page that nobody looks at is not painted.
    setTimeout(done, 200);
  });
}

// plotly.js lies in the page, compressed: most of the file would be it otherwise.
async function loadPlotly() {
  const packed = document.getElementById("plotly");
  if (!packed.textContent.trim()) throw new Error("this copy of Molotov was built without charts");
  if (!("DecompressionStream" in window)) throw new Error("charts need a browser of 2023 or later");
  const text = atob(packed.textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  await painted();
  document.head.append(script);
  if (!window.Plotly) throw new Error("plotly.js did not start");
}

function watch() {
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const view = views.find((view) => view.figure === entry.target);
      view.visible = entry.isIntersecting;
      if (!view.visible || printing) continue;
      if (!view.drawn) view.draw();
      else if (view.stale) view.draw();
    }
    document.documentElement.dataset.charts = "ready";
  }, { rootMargin: "200px" });
  views.forEach((view) => sight.observe(view.figure));
  if (!views.length) document.documentElement.dataset.charts = "ready";
  let timer;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || printing) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(redraw, 120);
  });
  darkness.addEventListener("change", redraw);
}

function redraw() {
  for (const view of views) {
    view.paintLegend();
    if (!view.drawn) continue;
    if (view.visible) view.draw();
    else view.stale = true;
  }
}

// On paper all charts are there, light, and as wide as the paper.
function print() {
  if (printing || !window.Plotly) return;
  printing = true;
  folded = [...document.querySelectorAll("details.run:not([open])")];
  folded.forEach((details) => (details.open = true));
  for (const view of views) {
    view.paintLegend();
    view.draw(view.chart.half ? PRINT_WIDTH / 2 - 10 : PRINT_WIDTH);
  }
}

function printed() {
  if (!printing) return;
  printing = false;
  folded.forEach((details) => (details.open = false));
  for (const view of views) {
    view.paintLegend();
    view.draw();
  }
}

makeViews();
loadPlotly().then(() => {
  watch();
  addEventListener("beforeprint", print);
  addEventListener("afterprint", printed);
}).catch((error) => {
  const text = "No charts: " + error.message + ". The figures and tables are complete.";
  document.querySelector("main").prepend(element("p", { class: "no-charts", role: "status" }, text));
  document.documentElement.dataset.charts = "none";
});
