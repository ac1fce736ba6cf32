// The shop's page as a person meets it: figures come and change; language, colours, keyboard and sizes work.

import { accessible, attribute, base, check, equal, fits, ink, shot, test, text, until } from "./browser.mjs";

const digits = (said) => Number(said.replace(/\D/g, ""));
const CHARTS = ["chart-recent", "chart-products", "chart-activity"];
const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

async function filled(page) {
  const began = Date.now();
  for (const tile of ["revenue", "transactions", "customers"]) {
    await until(`the tile ${tile} is filled`, async () => digits(await text(page, `#tile-${tile} .value`)) > 0);
  }
  const tiles = Date.now() - began;
  for (const chart of CHARTS) await until(`${chart} is drawn`, async () => (await ink(page, chart)) > 500);
  await until("behaviour has bars", async () => (await page.locator("#behavior-bars tbody tr").count()) > 2);
  await until("categories are listed", async () => (await page.locator("#details-products tbody tr").count()) > 2);
  await until("the warehouse is counted", async () => digits(await text(page, "#warehouse [data-name=events] dd")) > 0);
  for (const part of ["redis", "pipeline", "kafka", "warehouse"]) {
    await until(
      `${part} works`,
      async () => (await attribute(page, `.light[data-part=${part}]`, "data-state")) === "ok",
    );
  }
  console.log(`tiles filled after ${tiles} ms, everything after ${Date.now() - began} ms`);
}

async function changing(page) {
  const events = async () => digits(await text(page, "#warehouse [data-name=events] dd"));
  const before = await events();
  const { ms } = await until("the warehouse grows", async () => (await events()) > before);
  const revenue = await text(page, "#tile-revenue .value");
  await until("revenue changes", async () => (await text(page, "#tile-revenue .value")) !== revenue);
  console.log(`figures changed after ${ms} ms`);
}

async function pausing(page) {
  await page.click("#auto");
  equal(await attribute(page, "#live", "data-state"), "paused", "state with the refresh switched off");
  const time = await text(page, "#live-time");
  const events = await text(page, "#warehouse [data-name=events] dd");
  await page.waitForTimeout(2500);
  equal(await text(page, "#live-time"), time, "time of the last update while paused");
  equal(await text(page, "#warehouse [data-name=events] dd"), events, "events while paused");
  await page.click("#refresh");
  await until("the button brings new figures", async () => (await text(page, "#live-time")) !== time);
  equal(await attribute(page, "#live", "data-state"), "paused", "state after one refresh");
  await page.click("#auto");
  await until("it is live again", async () => (await attribute(page, "#live", "data-state")) === "live");
}

async function languages(page) {
  equal(await attribute(page, "html", "lang"), "en", "language of a British browser");
  equal(await text(page, "#tiles-title"), "Now", "a heading");
  await page.check("input[name=language][value=es]");
  equal(await attribute(page, "html", "lang"), "es", "language after the switch");
  equal(await text(page, "#tiles-title"), "Ahora", "the heading in Spanish");
  await until("amounts as in Spain", async () => /\d,\d\d\s€$/.test(await text(page, "#tile-revenue .value")));
  await page.reload();
  await until(
    "Spanish is remembered",
    async () => (await page.locator("#tiles-title").isVisible()) && (await text(page, "#tiles-title")) === "Ahora",
  );
  equal(await page.title(), "Tienda · Acequia", "title");
  await page.check("input[name=language][value=en]");
  await until("amounts as in Britain", async () => /^€[\d,]+\.\d\d$/.test(await text(page, "#tile-revenue .value")));
}

async function colours(page) {
  const light = await background(page);
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await background(page);
  check(dark !== light, `dark (${dark}) is not light (${light})`);
  await until("charts are drawn in the dark too", async () => (await ink(page, "chart-recent")) > 500);
  await page.check("input[name=theme][value=light]");
  equal(await background(page), light, "background with light chosen on a dark system");
  await page.reload();
  equal(await background(page), light, "background with light remembered");
  await page.check("input[name=theme][value=system]");
  equal(await background(page), dark, "background as the system has it");
  await page.emulateMedia({ colorScheme: "light" });
}

/** What the Tab key comes to, until it leaves the page. */
async function reach(page) {
  await page.evaluate(() => {
    // From the top, wherever a click has been.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
  });
  const reached = [];
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press("Tab");
    const name = await page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) return null;
      return at.id || (at.name ? `${at.name}` : at.closest("[data-id]") ? "node" : at.localName);
    });
    if (name === null) break;
    reached.push(name);
  }
  return reached;
}

async function keyboard(page) {
  const reached = await reach(page);
  for (const name of ["skip", "to-shop", "to-pipeline", "auto", "refresh", "language", "theme", "summary"]) {
    check(reached.includes(name), `Tab comes to ${name}: ${reached.join(" ")}`);
  }
  await page.focus("#to-pipeline");
  await page.keyboard.press("Enter");
  await until("Enter opens the pipeline", () => page.locator("#view-pipeline").isVisible());
  await until("nodes are drawn", async () => (await page.locator("#graph .node").count()) > 5);
  equal((await reach(page)).filter((name) => name === "node").length, 1, "nodes in the tab order");
  await page.focus("#graph .node[tabindex='0']");
  const first = await page.evaluate(() => document.activeElement.dataset.id);
  await page.keyboard.press("ArrowRight");
  check((await page.evaluate(() => document.activeElement.dataset.id)) !== first, "an arrow key goes to another node");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  await until("Enter shows the node", () => page.locator("#node").isVisible());
  equal(
    await page.evaluate(() => document.activeElement.getAttribute("aria-pressed")),
    "true",
    "the focus stays on the node",
  );
}

async function pipeline(page) {
  await page.goto(`${base}#pipeline`);
  const source = page.locator('#graph .node[data-role="source"]').first();
  await until("rows flow", async () => digits(await source.locator(".rate").textContent()) > 0);
  await source.click();
  check(/^[\w/-]+\.sql:\d+$/.test(await text(page, "#node-place")), "file and line of the SQL");
  check((await text(page, "#node-sql")).includes("CREATE TABLE"), "the node's SQL");
  check((await page.locator("#node-sql .keyword").count()) > 3, "keywords in colour");
  const own = await page.locator("#node-sql .numbered").count();
  await page.check("#node-whole");
  await until("the whole file is shown", async () => (await page.locator("#node-sql .numbered").count()) > own);
  equal(await page.locator("#node-sql .marked").count(), own, "lines marked in the file");
  await page.uncheck("#node-whole");
  for (const name of ["phase", "epoch", "checkpoint", "rate", "lag", "state", "uptime"]) {
    check((await text(page, `#pipe-figures [data-name=${name}] dd`)).length > 0, `the pipeline's ${name}`);
  }
  const epoch = digits(await text(page, "#pipe-figures [data-name=epoch] dd"));
  await until("epochs go on", async () => digits(await text(page, "#pipe-figures [data-name=epoch] dd")) > epoch);
  await page.click("#graph-table summary");
  const nodes = await page.locator("#graph .node").count();
  await until("all nodes are in the table", async () => (await page.locator("#graph-rows tr").count()) === nodes);
  await page.click("#graph-table summary");
  await accessible(page, "pipeline, light");
  await shot(page, "pipeline", { fullPage: true });
}

test(async ({ open }) => {
  const page = await open(base);
  await filled(page);
  equal(await page.title(), "Shop · Acequia", "title");
  await changing(page);
  await pausing(page);
  await languages(page);
  await colours(page);
  for (const chart of CHARTS) await page.click(`#${chart} summary`);
  await until("a chart's table has rows", async () => (await page.locator("#chart-products tbody tr").count()) > 2);
  await accessible(page, "shop, light");
  for (const chart of CHARTS) await page.click(`#${chart} summary`);
  await keyboard(page);
  await pipeline(page);

  await page.goto(`${base}#shop`);
  await page.waitForTimeout(1000);
  await shot(page, "shop", { fullPage: true });
  const dark = await open(base, { colorScheme: "dark", viewport: { width: 1440, height: 900 } });
  await filled(dark);
  await accessible(dark, "shop, dark");
  await shot(dark, "shop-dark");
  await dark.goto(`${base}#pipeline`);
  await until("the graph is there", async () => (await dark.locator("#graph .node").count()) > 5);
  await accessible(dark, "pipeline, dark");
  for (const [name, width] of [
    ["phone", 360],
    ["wall", 2560],
  ]) {
    const sized = await open(base, {
      viewport: { width, height: name === "phone" ? 780 : 1440 },
      locale: "es-ES",
      hasTouch: name === "phone",
      reducedMotion: "reduce",
    });
    await filled(sized);
    equal(await text(sized, "#tiles-title"), "Ahora", "heading in a Spanish browser");
    await fits(sized, `shop, ${name}`);
    await shot(sized, name, { fullPage: name === "phone" });
    await sized.goto(`${base}#pipeline`);
    await until("the graph is there", async () => (await sized.locator("#graph .node").count()) > 5);
    await sized.locator("#graph .node").first().click();
    await fits(sized, `pipeline, ${name}`);
    if (name === "phone") await accessible(sized, "pipeline, phone");
    await shot(sized, `pipeline-${name}`, { fullPage: name === "phone" });
  }
});
