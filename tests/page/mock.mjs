// A server that only looks like acequia's page: its assets, and snapshots as the contract has them, made up here.
//   node tests/page/mock.mjs [PORT]    port 0 (default): any; the address is printed
// For looking at the page while working on it, and for states that a real pipeline is not easily brought to:
//   GET /mock   how many streams are open
//   POST /mock  {"redis": "down"|"ok"|"starting", "warehouse": ..., "shop": false, "trouble": "text", "huge": true,
//                "spanish": true, "letters": [...], "nodes": false, "stream": false}   the fields given change

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { graph } from "./mock_graph.mjs";

const ASSETS = fileURLToPath(new URL("../../src/page/assets/", import.meta.url));
const TYPES = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
const CSP = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";
const WINDOW_MS = 30000;

const state = {
  redis: "ok",
  pipeline: "ok",
  kafka: "ok",
  warehouse: "ok",
  shop: true,
  trouble: null,
  huge: false,
  spanish: false,
  nodes: true,
  stream: true,
  letters: null,
};
const began = Date.now();
const streams = new Set();

const CATEGORIES = ["beauty", "books", "clothing", "electronics", "food", "home", "sports", "toys"];
const SPANISH = [
  "Alimentación y bebidas",
  "Bebés y niños",
  "Calzado",
  "Electrónica",
  "Hogar y jardín",
  "Juguetería",
  "Música y vídeo",
  "Niñas «ñandú»",
];
const KINDS = ["user_behavior", "search", "cart_event", "cart_abandonment", "page_view", "product_view", "purchase"];
const iso = (time) => new Date(time).toISOString();
/** The same for the same arguments: the figures of the past do not change. */
const noise = (seed) => Math.abs(Math.sin(seed * 12.9898) * 43758.5453) % 1;
const cents = (value) => Math.round(value * 100) / 100;

function shop(now) {
  if (!state.shop) return null;
  const scale = state.huge ? 1e7 : 1;
  const start = now - (now % WINDOW_MS);
  const done = (now - start) / WINDOW_MS;
  const transactions = (at, part = 1) => Math.floor((180 + 60 * noise(at / WINDOW_MS)) * part * scale);
  const revenue = (at, part = 1) => cents(transactions(at, part) * (70 + 20 * noise(at / 7000)));
  const figure = (value, previous) => ({ value, previous, change: (value - previous) / previous });
  const redis = state.redis === "ok";
  const warehouse = state.warehouse === "ok";
  const before = start - WINDOW_MS;
  const count = transactions(start, done);
  const total = revenue(start, done);
  const hour = now - (now % 3600000);
  return {
    now: iso(now),
    interval_ms: 1000,
    lights: ["redis", "pipeline", "kafka", "warehouse"].map((part) => ({
      part,
      state: state[part],
      detail: state[part] === "ok" ? "embedded" : `127.0.0.1:6379 does not answer since ${iso(now).slice(11, 19)}`,
    })),
    tiles: redis
      ? {
          window_start: iso(start),
          window_end: iso(start + WINDOW_MS),
          final: done > 0.95,
          revenue: figure(total, revenue(before)),
          transactions: figure(count, transactions(before)),
          customers: { value: Math.min(50, count), previous: null, change: null },
        }
      : null,
    transactions: redis
      ? {
          timestamp: iso(start).slice(0, 19),
          transaction_count: count,
          total_revenue: total,
          avg_transaction_value: count ? cents(total / count) : null,
          unique_customers: Math.min(50, count),
          max_transaction: 1840.5,
          min_transaction: 2.49,
        }
      : null,
    behavior: redis
      ? KINDS.map((kind, index) => ({
          timestamp: iso(index === 3 ? before : start).slice(0, 19),
          event_type: kind,
          event_count: Math.floor((5 + 40 * noise(index + start / 1000)) * done * scale),
        }))
      : [],
    products: redis
      ? (state.spanish ? SPANISH : CATEGORIES).map((category, index) => {
          const sold = Math.floor((10 + 50 * noise(index * 3 + start / 1000)) * done * scale);
          const worth = cents(sold * (8 + 90 * noise(index)));
          return {
            timestamp: iso(start).slice(0, 19),
            category,
            product_sales: sold,
            category_revenue: worth,
            avg_category_value: sold ? cents(worth / sold) : null,
            total_quantity: sold * 2,
            unique_customers: Math.min(50, sold),
            unique_products: Math.min(25, sold),
          };
        })
      : [],
    recent: warehouse
      ? Array.from({ length: 20 }, (_, index) => {
          const at = start - (19 - index) * WINDOW_MS;
          const part = at === start ? done : 1;
          return {
            timestamp: iso(at),
            revenue: index === 4 ? 0 : revenue(at, part),
            transactions: index === 4 ? 0 : transactions(at, part),
          };
        })
      : null,
    activity: warehouse
      ? Array.from({ length: 24 }, (_, index) => {
          const at = hour - (23 - index) * 3600000;
          const events = Math.floor((1 + Math.sin((index / 24) * Math.PI * 2 - 1.5)) * 9000 * scale + 4000);
          return {
            hour: iso(at),
            events,
            transactions: Math.floor(events * 0.3),
            behavior: Math.floor(events * (0.1 + 0.05 * noise(at))),
          };
        })
      : null,
    warehouse: warehouse
      ? {
          events: (184000 + Math.floor((now - began) / 30)) * scale,
          transactions: 61000 * scale,
          behavior: 27000 * scale,
          customers: 50,
          active_days: 2,
          first_event: iso(now - 86400000),
          last_event: iso(now - 700),
        }
      : null,
    sessions: warehouse ? { conversion: 4120 * scale, cart_abandonment: 1510 * scale, bounce: 2890 * scale } : null,
  };
}

const LETTERS = [
  {
    table: "transactions",
    reason: "malformed",
    error: "not well-formed JSON: expected ':' after a key, found '1' (byte 5)",
    topic: "transactions",
    partition: 1,
    offset: 1204,
    timestamp: "2026-11-29T11:59:02.120",
    value: '{"a" 1}',
  },
  {
    table: "searches",
    reason: "wrong_type",
    error: "column results_count: 'many' is not a BIGINT",
    topic: "searches",
    partition: 0,
    offset: 77,
    timestamp: "2026-11-29T11:58:40",
    value: '{"event_type":"search","results_count":"many","search_query":"<b>zapatos</b>"}',
  },
  {
    table: "cart_events",
    reason: "missing",
    error: "column event_type is NOT NULL and the record has none",
    topic: "cart_events",
    partition: 2,
    offset: 9,
    timestamp: null,
    value: null,
  },
];

function pipeline(now) {
  const seconds = (now - began) / 1000;
  return {
    now: iso(now),
    pipeline: "queries",
    version: "0.1.0",
    phase: "running",
    uptime_seconds: seconds,
    trouble: state.trouble,
    epoch: Math.floor(seconds),
    checkpoint_age_seconds: seconds % 1,
    rows_in: Math.floor(seconds * 10.3),
    rows_out: Math.floor(seconds * 9),
    rows_per_second: 10.3,
    late_rows: 2,
    bad_rows: 3,
    lag: 4,
    state_bytes: 1843200,
    nodes: state.nodes ? graph(seconds, now, state.huge ? 1e7 : 1) : [],
    dead_letters: state.letters ?? LETTERS,
  };
}

const FILES = [
  { file: "10_topics.sql", text: `-- The shop's topics.\n\n\n${"CREATE TABLE other (\n    a TEXT\n);\n".repeat(20)}` },
  { file: "40_metrics.sql", text: "-- The newest window.\nCREATE VIEW behavior AS\nSELECT 1;\n" },
];

const JSONS = { "/api/page/shop": shop, "/api/page/pipeline": pipeline, "/api/page/sql": () => FILES };

const server = createServer(async (request, response) => {
  const path = new URL(request.url, "http://localhost").pathname;
  response.setHeader("Content-Security-Policy", CSP);
  if (path === "/mock" && request.method === "GET") {
    response.end(String(streams.size));
  } else if (path === "/mock") {
    let body = "";
    for await (const chunk of request) body += chunk;
    Object.assign(state, JSON.parse(body));
    if (!state.stream) for (const stream of streams) stream.destroy();
    for (const stream of streams) tell(stream);
    response.end("ok");
  } else if (path in JSONS) {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(JSONS[path](Date.now())));
  } else if (path === "/api/page/stream") {
    if (!state.stream) {
      response.statusCode = 503;
      response.end();
      return;
    }
    response.setHeader("Content-Type", "text/event-stream");
    response.setHeader("Cache-Control", "no-store");
    streams.add(response);
    response.on("close", () => streams.delete(response));
    tell(response);
  } else {
    const name = path === "/" ? "index.html" : path.replace(/^\/assets\//, "");
    try {
      const text = await readFile(ASSETS + name.replaceAll("/", ""));
      response.setHeader("Content-Type", TYPES[name.split(".").at(-1)] ?? "text/plain");
      response.end(text);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  }
});

function tell(stream) {
  const now = Date.now();
  stream.write(
    `event: shop\ndata: ${JSON.stringify(shop(now))}\n\nevent: pipeline\ndata: ${JSON.stringify(pipeline(now))}\n\n`,
  );
}
setInterval(() => streams.forEach(tell), 1000);

server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () =>
  console.log(`http://127.0.0.1:${server.address().port}/`),
);
