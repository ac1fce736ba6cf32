// States that a real pipeline is not easily brought to, served by the mock: parts that are down, another folder than
// the shop's, enormous figures, long names, hostile text, a stream that breaks, a server that goes away and returns.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { layout } from "../../src/page/assets/layout.js";
import { TEXTS } from "../../src/page/assets/texts.js";
import { graph } from "./mock_graph.mjs";
import { accessible, attribute, check, equal, fits, ink, test, text, until } from "./browser.mjs";

/** A mock on that port, or any; ended with this process. */
async function serve(port = 0) {
  const child = spawn(process.execPath, [fileURLToPath(new URL("mock.mjs", import.meta.url)), String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.on("exit", () => child.kill());
  const { value: url } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  const set = (state) => fetch(`${url}mock`, { method: "POST", body: JSON.stringify(state) });
  const stop = () =>
    new Promise((done) => {
      child.once("exit", done);
      child.kill();
    });
  return { url, set, stop };
}

const state = (page) => attribute(page, "#live", "data-state");

/** A text that one language lacks would be seen as its key. */
function texts() {
  const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
  for (const [key, text] of Object.entries(TEXTS.en))
    equal(holes(TEXTS.es[key] ?? "{missing}"), holes(text), `what is put into ${key}`);
  equal(Object.keys(TEXTS.es).length, Object.keys(TEXTS.en).length, "texts in Spanish");
}

/** A graph, one node alone, none at all, and a circle, which can only be a mistake, are all laid out. */
function layouts() {
  const size = { width: 10, height: 10, column: 5, row: 2, lane: 1 };
  const nodes = graph(1, 0, 1);
  const { places, edges } = layout(nodes, size);
  equal(JSON.stringify(layout(nodes, size)), JSON.stringify(layout(nodes, size)), "the same graph, laid out again");
  equal(places.size, nodes.length, "places");
  equal(
    edges.length,
    nodes.reduce((sum, { inputs }) => sum + inputs.length, 0),
    "edges",
  );
  for (const { from, to } of edges) check(places.get(from).x < places.get(to).x, `${from} is left of ${to}`);
  for (const [one, a] of places) {
    for (const [two, b] of places) {
      check(
        one === two || a.layer !== b.layer || Math.abs(a.y - b.y) >= size.height + size.row - 0.001,
        `${one} and ${two} do not touch`,
      );
    }
  }
  equal(layout([{ id: 7, inputs: [] }], size).places.size, 1, "one node");
  equal(layout([], size).places.size, 0, "no node");
  equal(
    layout(
      [
        { id: 1, inputs: [2] },
        { id: 2, inputs: [1] },
      ],
      size,
    ).places.size,
    2,
    "a circle",
  );
}

async function partsDown(page, { set }) {
  await set({ redis: "down" });
  await until(
    "Redis is shown to be down",
    async () => (await attribute(page, ".light[data-part=redis]", "data-state")) === "down",
  );
  for (const place of [
    "#tiles-nothing",
    "#chart-products .nothing",
    "#behavior-nothing",
    "#details-transactions-nothing",
    "#details-products-nothing",
  ]) {
    await until(`${place} says why`, async () => (await text(page, place)).startsWith("Redis is down"));
  }
  equal(await text(page, "#tile-revenue .value"), "–", "revenue without Redis");
  check(
    (await ink(page, "chart-recent")) > 500 && (await page.locator("#warehouse").isVisible()),
    "the warehouse's figures stay",
  );
  await accessible(page, "Redis down");
  await set({ redis: "ok", warehouse: "down" });
  await until("the warehouse's places say why", async () =>
    (await text(page, "#warehouse-nothing")).startsWith("Warehouse is down"),
  );
  for (const place of ["#chart-recent .nothing", "#chart-activity .nothing", "#sessions-nothing"]) {
    check((await text(page, place)).startsWith("Warehouse is down"), `${place} says why`);
  }
  await until("Redis' figures are back", async () => (await ink(page, "chart-products")) > 500);
  await set({ redis: "starting", warehouse: "starting" });
  await until(
    "a part that starts is said to",
    async () => (await text(page, "#tiles-nothing")) === "Redis is starting.",
  );
  await set({ redis: "ok", warehouse: "ok" });
  await until(
    "everything is back",
    async () => (await ink(page, "chart-activity")) > 500 && (await page.locator("#tiles-nothing").isHidden()),
  );
}

async function largeFigures(page, { set }) {
  await set({ huge: true, spanish: true });
  await until(
    "enormous figures are shown",
    async () => (await text(page, "#warehouse [data-name=events] dd")).length > 12,
  );
  await until("Spanish categories are listed", async () =>
    (await text(page, "#details-products")).includes("Niñas «ñandú»"),
  );
  for (const width of [360, 768, 1280, 2560]) {
    await page.setViewportSize({ width, height: 800 });
    await fits(page, "enormous figures");
    // A tile's figure is as wide as its tile allows.
    const cut = await page.$$eval(
      ".tile .value",
      (values) => values.filter((value) => value.scrollWidth > value.clientWidth + 1).length,
    );
    equal(cut, 0, `figures wider than their tile at ${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await set({ huge: false, spanish: false });
}

async function hostileText(page, { url, set }) {
  const value = '<img src=x onerror="globalThis.hit=1"><script>globalThis.hit=1</script>\u202e${x} {{y}} \u0000';
  const letter = {
    table: value,
    reason: value,
    error: value,
    topic: value,
    partition: 0,
    offset: 1,
    timestamp: value,
    value,
  };
  await set({ letters: [letter, letter, { ...letter, value: "x".repeat(100000) }], trouble: value });
  await page.goto(`${url}#pipeline`);
  await until("three letters are shown", async () => (await page.locator(".dead tbody tr").count()) === 3);
  equal(
    await page.locator(".dead tbody tr").first().locator("code").textContent(),
    value,
    "a letter's value as it came",
  );
  equal(await page.locator("#trouble-text").textContent(), value, "trouble as it came");
  equal(await page.locator("main img, main script").count(), 0, "elements made of values");
  equal(await page.evaluate(() => globalThis.hit), undefined, "what hostile text has done");
  check((await page.locator(".dead tbody tr").nth(2).textContent()).length < 2000, "a long value is cut");
  await fits(page, "hostile letters");
  await set({ letters: [], trouble: null });
  await until(
    "no letters are said to be none",
    async () => (await text(page, "#dead-nothing")) === "No row has been refused.",
  );
  check(await page.locator("#trouble").isHidden(), "no trouble, no banner");
  await page.goto(`${url}#shop`);
}

async function brokenStream(page, { set }) {
  await set({ stream: false });
  await until("it asks instead", async () => (await state(page)) === "polling");
  const time = await text(page, "#live-time");
  await until("figures still come", async () => (await text(page, "#live-time")) !== time);
  await set({ stream: true });
  await until("it is live again", async () => (await state(page)) === "live");
}

async function unseen(page, { url }) {
  const streams = async () => Number(await (await fetch(`${url}mock`)).text());
  const turn = (hidden) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { value, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await turn(true);
  await until("a page that nobody sees holds no stream", async () => (await streams()) === 0);
  await turn(false);
  await until("it is live when it is seen", async () => (await state(page)) === "live" && (await streams()) === 1);
}

async function serverGone(page, server) {
  const port = new URL(server.url).port;
  await server.stop();
  await until("the page says that nobody answers", async () => (await state(page)) === "gone");
  check(
    (await text(page, "#banner")).startsWith("Acequia does not answer. The figures below are those of"),
    "the banner says since when",
  );
  check((await text(page, "#tile-revenue .value")).length > 1, "the last figures stay");
  await accessible(page, "server gone");
  const again = await serve(port);
  await until("it is live again", async () => (await state(page)) === "live");
  check(await page.locator("#banner").isHidden(), "the banner goes");
  return again;
}

async function anotherFolder(page, { url, set }) {
  await set({ shop: false, nodes: false });
  await page.goto("about:blank");
  await page.goto(url);
  await until("the page opens on the pipeline", () => page.locator("#view-pipeline").isVisible());
  check(await page.locator("#to-shop").isHidden(), "no way to a shop that is not there");
  equal(await text(page, "#graph-nothing"), "The graph is not there yet.", "a pipeline that starts");
  await set({ nodes: true });
  await until("the graph comes", async () => (await page.locator("#graph .node").count()) > 5);
  await page.goto(`${url}#shop`);
  await until("asked for, the shop is said to be none", () => page.locator("#shop-none").isVisible());
}

test(async ({ open, tolerate }) => {
  // The browser itself notes answers of 503 and servers that are gone.
  tolerate(/Failed to load resource|ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY_RESPONSE/);
  texts();
  layouts();
  let server = await serve();
  const page = await open(server.url);
  await until("the first figures", async () => (await text(page, "#tile-transactions .value")) !== "–");
  const start = await text(page, "#tiles-time");
  await partsDown(page, server);
  await largeFigures(page, server);
  await hostileText(page, server);
  await brokenStream(page, server);
  await unseen(page, server);
  server = await serverGone(page, server);
  await until("windows change", async () => (await text(page, "#tiles-time")) !== start);
  await anotherFolder(page, server);
});
