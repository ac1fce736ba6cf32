// A real Chromium for the tests of the page: opens pages that are watched for errors and for requests to elsewhere.
// Surroundings: ACEQUIA_PAGE the folder of scripts/page.sh, PAGE_URL the page, PAGE_SHOTS where screenshots go.

import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const installed = createRequire(`${process.env.ACEQUIA_PAGE}/`);
const { chromium } = installed("playwright-core");
const AXE = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");

/** Only there to end a test that would never end. */
export const PATIENCE_MS = 60000;
const SHOTS = process.env.PAGE_SHOTS;

export const base = process.env.PAGE_URL;

export function check(holds, what) {
  if (!holds) throw new Error(`not so: ${what}`);
}

export function equal(found, expected, what) {
  check(found === expected, `${what}: ${JSON.stringify(found)} should be ${JSON.stringify(expected)}`);
}

/** Waits until `holds` gives something true, and gives that and how long it took. */
export async function until(what, holds) {
  const began = Date.now();
  let last;
  while (Date.now() - began < PATIENCE_MS) {
    last = await holds();
    if (last) return { value: last, ms: Date.now() - began };
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`never: ${what}`);
}

/** What only the test around this one can do, such as stopping a server. */
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function ask(wish) {
  console.log(`! ${wish}`);
  const { done } = await answers.next();
  check(!done, `${wish} was done`);
}

/** Runs a test in a browser of its own; what it says goes to stdout. */
export async function test(run) {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    timeout: 2 * PATIENCE_MS,
  });
  const faults = [];
  const tolerated = [];
  let origin = null;
  const open = async (url, options = {}) => {
    origin ??= new URL(url).origin;
    const context = await browser.newContext({
      locale: "en-GB",
      timezoneId: "UTC",
      viewport: { width: 1280, height: 900 },
      ...options,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => faults.push(`uncaught: ${error.stack}`));
    page.on("request", (request) => {
      const to = new URL(request.url());
      if (to.protocol !== "data:" && to.origin !== origin) faults.push(`request to ${request.url()}`);
    });
    await page.goto(url);
    return page;
  };
  let status = 0;
  try {
    await run({ open, tolerate: (pattern) => tolerated.push(pattern) });
    const left = faults.filter((fault) => !tolerated.some((pattern) => pattern.test(fault)));
    check(left.length === 0, `a page without faults:\n${left.join("\n")}`);
  } catch (error) {
    console.log(`${error.stack}\nfaults so far:\n${faults.join("\n")}`);
    status = 1;
  }
  await browser.close();
  process.exit(status);
}

export const text = (page, selector) => page.locator(selector).innerText();
export const attribute = (page, selector, name) => page.locator(selector).getAttribute(name);

/** How many pixels of a chart's canvas are drawn on. */
export const ink = (page, id) =>
  page.evaluate((name) => {
    const canvas = document.querySelector(`#${name} canvas`);
    if (!canvas || canvas.width === 0) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let drawn = 0;
    for (let at = 3; at < data.length; at += 4) if (data[at] > 0) drawn += 1;
    return drawn;
  }, id);

/** Nothing stands out of the page to the right: it is not scrolled sideways. */
export async function fits(page, what) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  equal(over, 0, `${what}: pixels beyond the width of ${page.viewportSize().width}`);
}

/** axe's findings that keep people out. The page's own policy does not hold for what the debugger evaluates. */
export async function accessible(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }),
  );
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const lines = serious.map(
    ({ id, help, nodes }) =>
      `${id}: ${help}\n  ${nodes
        .slice(0, 3)
        .map(({ html, failureSummary }) => `${html}\n  ${failureSummary}`)
        .join("\n  ")}`,
  );
  check(serious.length === 0, `${what} accessible:\n${lines.join("\n")}`);
  console.log(`${what}: axe has nothing serious; minor: ${violations.map(({ id }) => id).join(", ") || "none"}`);
}

export async function shot(page, name, options = {}) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: `${SHOTS}/${name}.png`, ...options });
}
