// Colours, strokes and the way numbers are written.
//
// The palette is that of Okabe and Ito, which people tell apart whatever colours they see; lighter on dark ground. A
// stroke goes with each colour, so that no series is known by its colour alone.

const LIGHT = {
  ink: "#1c2430", soft: "#5a6675", grid: "#e6eaf0", ground: "#ffffff", neutral: "#8793a3",
  phase: "rgba(28,36,48,0.045)", confirm: "rgba(0,114,178,0.10)", mark: "#1c2430",
  series: ["#0067a8", "#c24a00", "#00805f", "#a3478a", "#8a6100", "#2f8fc4", "#5b5f97", "#6b7480"],
  heat: [[0, "#eaf1f8"], [0.25, "#b4d0e8"], [0.5, "#6ea5d2"], [0.75, "#2f74b0"], [1, "#0b3d73"]],
};
const DARK = {
  ink: "#e8ecf2", soft: "#9aa7b8", grid: "#2a3341", ground: "#171d27", neutral: "#8793a3",
  phase: "rgba(232,236,242,0.045)", confirm: "rgba(86,180,233,0.13)", mark: "#e8ecf2",
  series: ["#56b4e9", "#ff9152", "#3fc9a0", "#e08ac4", "#e6c34a", "#9fd4f5", "#a9acf0", "#b3bdca"],
  heat: [[0, "#1d2a3c"], [0.25, "#23466b"], [0.5, "#2f70a6"], [0.75, "#56b4e9"], [1, "#d5edfb"]],
};
const STROKES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px 2px 2px 2px 2px 2px", "2px 4px"];
// The same for SVG, whose strokes have no names.
const DASHES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

const darkness = matchMedia("(prefers-color-scheme: dark)");
const narrowness = matchMedia("(max-width: 640px)");
let printing = false;
const theme = () => (darkness.matches && !printing ? DARK : LIGHT);

function grouped(text) {
  const [whole, rest] = text.split(".");
  const parts = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return rest === undefined ? parts : parts + "." + rest;
}

// A number with three significant digits or more, never in powers of ten.
function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 99.95) return grouped(value.toFixed(0));
  return value.toFixed(size >= 9.995 ? 1 : size >= 0.0995 ? 2 : 4).replace(/\.?0+$/, "");
}

function milliseconds(value) {
  return value >= 999.5 ? figure(value / 1000) + " s" : figure(value) + " ms";
}

function withUnit(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (unit === "ms") return milliseconds(value);
  return unit ? figure(value) + " " + unit : figure(value);
}

// A moment of the run: 0:07, 12:30, 1:02:30.
function moment(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? h + ":" + two(m) + ":" + two(s) : m + ":" + two(s);
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

function timeTicks([from, to], width) {
  const most = Math.max(2, Math.floor(width / 70));
  const step = STEPS.find((step) => (to - from) / step <= most) || Math.ceil((to - from) / most / 86400) * 86400;
  const values = [];
  for (let at = Math.ceil(from / step) * step; at <= to && values.length < 100; at += step) values.push(at);
  return { tickvals: values, ticktext: values.map(moment) };
}

// Ticks at 1, 2, 5 or only at powers of ten; values are their logarithms where `exponents` says so.
function logTicks(low, high) {
  const values = [];
  const decades = Math.log10(high / low);
  const digits = decades < 1.2 ? [1, 2, 3, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) {
      const value = digit * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) values.push(value);
    }
  }
  return values;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
