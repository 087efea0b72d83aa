// Takes the picture of a report that the README shows: from the top to the end of its first charts.
//
//   node screenshot.mjs NODE_MODULES CHROMIUM PAGE.html OUT.png
//
// Called by `make screenshot`.

import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import path from "node:path";
import { withPalette } from "./palette.mjs";

const WIDTH = 1180;
const LAST_CHART = "r0-service-time";

const [modules, executablePath, file, out] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "node_modules", "x.js"))("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 2400 }, colorScheme: "light" });
  await page.goto(pathToFileURL(path.resolve(file)).href);
  const last = page.locator("#" + LAST_CHART);
  await last.locator(".main-svg").first().waitFor();
  const { y, height } = await last.boundingBox();
  const clip = { x: 0, y: 0, width: WIDTH, height: Math.ceil(y + height) + 16 };
  writeFileSync(out, withPalette(await page.screenshot({ clip })));
} finally {
  await browser.close();
}
