// Opens report pages in headless Chromium and tells what it saw, as JSON on stdout.
//
//   node observe.mjs NODE_MODULES CHROMIUM PAGE.html:CHECK,CHECK...
//
// Judges nothing: test_page.py does, and it says what is looked at beside errors, requests, widths and charts: `audit`,
// `pointer` (legend, cursor, zoom, table), `sorting`, `paper`, `phone`. Every page is opened on its own, with all requests
// but the page itself refused and noted, and with a function `injected` that hostile texts try to call. Pages are looked
// at in the order in which they are named, some at once.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import path from "node:path";

const AT_ONCE = 3;

const [modules, executablePath, ...wanted] = process.argv.slice(2);
const load = createRequire(path.join(modules, "node_modules", "x.js"));
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

const ready = () => document.documentElement.dataset.charts !== undefined;

async function open(browser, file, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  // A busy machine is no fault of the page.
  page.setDefaultTimeout(300_000);
  const seen = { errors: [], requests: [], injected: 0 };
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("dialog", (dialog) => {
    seen.injected++;
    dialog.dismiss();
  });
  await page.exposeFunction("injected", () => seen.injected++);
  const own = pathToFileURL(path.resolve(file)).href;
  await page.route("**/*", (route) => {
    const url = route.request().url();
    if (url === own || url.startsWith("data:") || url.startsWith("blob:")) return route.continue();
    seen.requests.push(url);
    return route.abort();
  });
  const began = performance.now();
  await page.goto(own);
  await page.waitForFunction(ready, undefined, { polling: 10 });
  seen.open_ms = performance.now() - began;
  // Runs among several are folded.
  await page.evaluate(() => document.querySelectorAll("details.run").forEach((one) => { one.open = true; }));
  return { context, page, seen };
}

const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

// Every chart is drawn once the page was scrolled through.
async function scroll(page) {
  await page.evaluate(async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    for (let at = 0; at < document.documentElement.scrollHeight; at += innerHeight / 2) {
      scrollTo(0, at);
      await frame();
    }
    scrollTo(0, 0);
    await frame();
  });
}

async function charts(page) {
  return page.evaluate(() => [...document.querySelectorAll("figure.chart")].map((figure) => ({
    id: figure.id,
    drawn: figure.querySelector(".main-svg") !== null,
    empty: figure.querySelectorAll(".scatterlayer .trace, .barlayer .trace, .heatmaplayer image").length === 0,
  })));
}

// What the legend of the first chart with several series does.
async function legend(page) {
  const buttons = page.locator("figure.chart").first().locator(".legend button");
  const pressed = () => buttons.evaluateAll((all) => all.map((one) => one.getAttribute("aria-pressed") === "true"));
  const visible = () => page.evaluate(() => document.querySelector("figure.chart .plot").data.map((trace) => trace.visible));
  const before = await pressed();
  await buttons.nth(0).click();
  const hidden = { pressed: await pressed(), visible: await visible() };
  await buttons.nth(0).click();
  await buttons.nth(1).dblclick();
  const alone = { pressed: await pressed(), visible: await visible() };
  await buttons.nth(1).dblclick();
  return { before, hidden, alone, after: await pressed() };
}

// Drags across the first chart; every other chart over time must show the same.
async function zoom(page) {
  const box = await page.locator("figure.chart .plot .nsewdrag").first().boundingBox();
  const y = box.y + box.height / 2;
  await page.mouse.move(box.x + box.width * 0.25, y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.4, y, { steps: 4 });
  await page.mouse.move(box.x + box.width * 0.5, y, { steps: 4 });
  await page.mouse.up();
  await page.waitForFunction(() => !document.querySelector(".zoom span").textContent.startsWith("drag"));
  await scroll(page);
  const ranges = () => page.evaluate(() => [...document.querySelectorAll("figure.chart .plot")]
    .filter((plot) => plot._fullLayout && !plot._fullLayout.xaxis.fixedrange).map((plot) => plot._fullLayout.xaxis.range));
  const zoomed = await ranges();
  // The time from a click to the frame after the last chart in sight has followed.
  const click = (name) => page.evaluate(async (name) => {
    const button = [...document.querySelectorAll(".zoom button")].find((one) => one.getAttribute("aria-label") === name);
    const began = performance.now();
    button.click();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - began;
  }, name);
  const zoom_ms = [];
  for (const name of ["Zoom in", "Zoom in", "Zoom out", "Zoom out", "Show the whole run", "Zoom in", "Show the whole run"]) {
    zoom_ms.push(await click(name));
  }
  await scroll(page);
  return { zoomed, whole: await ranges(), zoom_ms };
}

async function cursor(page) {
  await page.locator("figure.chart .plot").first().scrollIntoViewIfNeeded();
  const box = await page.locator("figure.chart .plot .nsewdrag").first().boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const seen = await page.evaluate(() => ({
    readout: document.querySelector(".readout:not([hidden])")?.textContent,
    cursors: document.querySelectorAll(".cursor:not([hidden])").length,
    values: [...document.querySelectorAll("figure.chart .legend .at")].filter((one) => one.textContent).length,
  }));
  await page.mouse.move(0, 0);
  return seen;
}

async function sorting(page) {
  const table = page.locator('.table[id$="-times-table"]');
  const first = () => table.locator("tbody tr").first().innerText();
  const before = await first();
  const head = table.locator("thead th").first();
  await head.locator("button").click();
  const up = [await first(), await head.getAttribute("aria-sort")];
  await head.locator("button").click();
  return { before, up, down: [await first(), await head.getAttribute("aria-sort")] };
}

async function asTable(page) {
  await page.locator("figure.chart details.data summary").first().click();
  const rows = page.locator("figure.chart details.data tbody tr");
  await rows.first().waitFor();
  return rows.count();
}

async function audit(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.slice(0, 3).map((node) => node.html.slice(0, 200)) }));
}

async function paper(page, file) {
  const pdf = await page.pdf({ path: file + ".pdf", preferCSSPageSize: true, printBackground: true });
  return { bytes: pdf.length };
}

// What is seen when the page is laid out for paper: nothing may be wider than it.
async function printed(page) {
  await page.setViewportSize({ width: 700, height: 1000 });
  await page.emulateMedia({ media: "print" });
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  const found = await page.evaluate(() => {
    const plots = [...document.querySelectorAll("figure.chart")];
    return {
      drawn: plots.filter((figure) => figure.querySelector(".main-svg")).length,
      wide: plots.filter((figure) => figure.querySelector(".main-svg")?.getBoundingClientRect().right > innerWidth + 1).map((figure) => figure.id),
      charts: plots.length,
    };
  });
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  return found;
}

async function observe(browser, file, checks) {
  const found = {};
  const { context, page, seen } = await open(browser, file, { colorScheme: "light" });
  found.open_ms = seen.open_ms;
  found.overflow = await overflow(page);
  found.heading = await page.locator("h1").innerText();
  found.ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await scroll(page);
  found.charts = await charts(page);
  if (checks.includes("audit")) found.axe = await audit(page);
  if (checks.includes("pointer")) {
    found.cursor = await cursor(page);
    found.legend = await legend(page);
    found.zoom = await zoom(page);
    found.rows = await asTable(page);
  }
  if (checks.includes("sorting")) found.sorting = await sorting(page);
  if (checks.includes("paper")) {
    found.paper = await paper(page, file);
    found.printed = await printed(page);
  }
  await context.close();
  const all = [seen];
  if (checks.includes("phone")) {
    const small = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: "dark" };
    const phone = await open(browser, file, small);
    await scroll(phone.page);
    found.phone = { overflow: await overflow(phone.page) };
    if (checks.includes("audit")) found.phone.axe = await audit(phone.page);
    found.dark = await phone.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await phone.context.close();
    all.push(phone.seen);
  }
  found.errors = all.flatMap((one) => one.errors);
  found.requests = all.flatMap((one) => one.requests);
  found.injected = all.reduce((sum, one) => sum + one.injected, 0);
  return found;
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const all = {};
  const left = [...wanted];
  const work = async () => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) {
      const [file, checks] = one.split(":");
      all[path.basename(file, ".html")] = await observe(browser, file, checks.split(","));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  console.log(JSON.stringify(all));
} finally {
  await browser.close();
}
