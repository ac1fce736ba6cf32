// A folder without the shop's tables, and a record that would like to be a script: the page opens on the pipeline and
// shows the record as text.

import { base, check, equal, shot, test, text, until } from "./browser.mjs";

test(async ({ open }) => {
  const page = await open(base);
  await until("the page opens on the pipeline", () => page.locator("#view-pipeline").isVisible());
  check(await page.locator("#to-shop").isHidden(), "no way to a shop that is not there");
  await until("the dead letter is shown", async () => (await page.locator(".dead tbody tr").count()) > 0);
  equal(
    await page.locator(".dead tbody code").first().textContent(),
    process.env.PAGE_HOSTILE,
    "the record as it came",
  );
  check((await text(page, ".dead tbody")).includes("malformed"), "why it was refused");
  equal(await page.locator("main img, main script").count(), 0, "elements made of the record");
  equal(await page.evaluate(() => globalThis.hit), undefined, "what it has done");
  const uptime = () => text(page, "#pipe-figures [data-name=uptime] dd");
  for (let times = 0; times < 5; times += 1) {
    const before = await uptime();
    await until("figures come", async () => (await uptime()) !== before);
  }
  const asked = await page.evaluate(() =>
    performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname),
  );
  check(!asked.includes("/api/page/pipeline"), `the stream goes on without a shop: ${asked.join(" ")}`);
  await shot(page, "letters", { fullPage: true });
});
