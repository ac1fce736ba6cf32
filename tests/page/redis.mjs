// Redis stops and returns under the page of a real pipeline: what it held says so, the rest goes on, all comes back.

import { ask, attribute, base, check, equal, ink, shot, test, text, until } from "./browser.mjs";

const light = (page) => attribute(page, ".light[data-part=redis]", "data-state");

test(async ({ open }) => {
  const page = await open(base);
  await until("revenue from Redis", async () => /\d/.test(await text(page, "#tile-revenue .value")));
  await until("Redis works", async () => (await light(page)) === "ok");

  await ask("stop redis");
  const { ms } = await until("Redis is shown to be down", async () => (await light(page)) === "down");
  console.log(`a stopped Redis was shown after ${ms} ms`);
  check(/127\.0\.0\.1:\d+/.test(await text(page, ".light[data-part=redis] .detail")), "the light says which Redis");
  await until("the tiles say so", async () => (await text(page, "#tiles-nothing")).startsWith("Redis is down"));
  equal(await text(page, "#tile-revenue .value"), "–", "revenue without Redis");
  await until("the warehouse's charts stay", async () => (await ink(page, "chart-recent")) > 500);
  const events = await text(page, "#warehouse [data-name=events] dd");
  await until("the warehouse goes on", async () => (await text(page, "#warehouse [data-name=events] dd")) !== events);
  await shot(page, "redis-down", { fullPage: true });

  await ask("start redis");
  const back = await until("Redis works again", async () => (await light(page)) === "ok");
  await until("revenue is back", async () => /\d/.test(await text(page, "#tile-revenue .value")));
  console.log(`its return was shown after ${back.ms} ms`);
});
