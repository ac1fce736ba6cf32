// A dataflow of about the shop's size, with figures that move.

const text = (name) => `CREATE TABLE ${name} (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL, -- when it happened
    total_amount DECIMAL(12, 2),
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (
    connector = 'kafka',
    bootstrap_servers = '\${KAFKA_BROKERS:-embedded}',
    topic = '${name}'
);`;

const NODES = [];
function add(role, name, inputs, more = {}) {
  NODES.push({ id: NODES.length, role, name, inputs, ...more });
  return NODES.length - 1;
}
const TOPICS = ["transactions", "user_behavior", "searches", "cart_events", "item_events"];
const BEHAVIOR = ["user_behavior", "searches", "cart_events"];
const topics = Object.fromEntries(TOPICS.map((name) => [name, add("source", name, [], { table: name })]));
const map = (query, input) => add("operator", `${query}.map`, [input]);
const sink = (table, inputs) => add("sink", table, inputs, { table });

const letters = sink("dead_letters", Object.values(topics));
sink("transaction_items", [map("transaction_items", topics.transactions)]);
sink(
  "realtime_events",
  TOPICS.map((topic, index) => map(index ? `realtime_events_${index + 1}` : "realtime_events", topics[topic])),
);
/** A window: one part for each source, the whole, and the newest of it. */
function windowed(table, sources) {
  const parts = sources.map((source) => add("operator", `${table}.partial`, [map(table, source)], { state: 41000 }));
  const whole = add("operator", `${table}.window`, parts, { state: 122000 });
  sink(table, [add("operator", `${table}.newest`, [map(table, whole)], { state: 900 })]);
}
windowed("metrics_transactions", [topics.transactions]);
windowed(
  "metrics_behavior",
  BEHAVIOR.map((topic) => topics[topic]),
);
windowed("metrics_products", [topics.transactions]);
const sessions = add(
  "operator",
  "customer_sessions.session",
  BEHAVIOR.map((topic) => map("customer_sessions", topics[topic])),
  { state: 1670000 },
);
sink("customer_sessions", [map("customer_sessions", sessions)]);

export function graph(seconds, now, scale) {
  return NODES.map(({ id, role, name, inputs, table = null, state = 0 }) => {
    const speed = id === letters ? 0 : (2 + (id % 5) * 1.7 + Math.sin(seconds / 5 + id)) * scale;
    return {
      id,
      name,
      role,
      table,
      inputs,
      describe:
        role === "source"
          ? `kafka topic ${name} at embedded, 3 partitions`
          : role === "sink"
            ? `postgres table ${table}, exactly once`
            : `${name}, in 2 tasks`,
      sql:
        role === "operator" && name.endsWith("newest")
          ? null
          : { file: "10_topics.sql", line: 4 + 3 * (id % 4), text: text(table ?? name) },
      rows_in: Math.floor(seconds * speed),
      rows_out: Math.floor(seconds * speed),
      rows_per_second: speed,
      lag: role === "source" ? id * scale : 0,
      watermark: new Date(now - 10400).toISOString(),
      watermark_lag_seconds: 10.4,
      state_bytes: state * scale,
      late_rows: id === 0 ? 2 : 0,
      bad_rows: id === 0 ? { malformed: 2, wrong_type: 1 } : {},
      delivery:
        role === "sink"
          ? { settled_epoch: Math.floor(seconds), undelivered_rows: id % 4, waiting_seconds: null }
          : null,
    };
  });
}
