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
const topics = Object.fromEntries(["transactions", "user_behavior", "searches", "cart_events", "item_events"].map((name) => [name, add("source", name, [], { table: name })]));
const letters = add("sink", "dead_letters", Object.values(topics), { table: "dead_letters" });
const items = add("operator", "unnest items", [topics.transactions]);
add("sink", "transaction_items", [items], { table: "transaction_items" });
for (const name of Object.keys(topics)) add("sink", `realtime_events (${name})`, [topics[name]], { table: "realtime_events" });
const totals = add("operator", "aggregate transactions", [topics.transactions], { state: 81000 });
add("sink", "metrics_transactions", [add("operator", "merge transactions", [totals], { state: 12000 })], { table: "metrics_transactions" });
const union = add("operator", "union behavior", [topics.user_behavior, topics.searches, topics.cart_events]);
const kinds = add("operator", "aggregate behavior", [union], { state: 9000 });
add("sink", "metrics_behavior", [add("operator", "merge behavior", [kinds], { state: 4000 })], { table: "metrics_behavior" });
const products = add("operator", "aggregate items by category", [items], { state: 44000 });
add("sink", "metrics_products", [add("operator", "merge items by category", [products], { state: 22000 })], { table: "metrics_products" });
const sessions = add("operator", "session windows by session_id", [union], { state: 1670000 });
add("sink", "customer_sessions", [sessions], { table: "customer_sessions" });

export function graph(seconds, now, scale) {
  return NODES.map(({ id, role, name, inputs, table = null, state = 0 }) => {
    const speed = id === letters ? 0 : (2 + (id % 5) * 1.7 + Math.sin(seconds / 5 + id)) * scale;
    return {
      id, name, role, table, inputs,
      describe: role === "source" ? `kafka topic ${name} at embedded, 3 partitions` : role === "sink" ? `postgres table ${table}, exactly once` : `${name}, in 2 tasks`,
      sql: role === "operator" && name.startsWith("merge") ? null : { file: "10_topics.sql", line: 4 + 3 * (id % 4), text: text(table ?? name) },
      rows_in: Math.floor(seconds * speed), rows_out: Math.floor(seconds * speed), rows_per_second: speed,
      lag: role === "source" ? id * scale : 0, watermark: new Date(now - 10400).toISOString(), watermark_lag_seconds: 10.4,
      state_bytes: state * scale, late_rows: id === 0 ? 2 : 0, bad_rows: id === 0 ? { malformed: 2, wrong_type: 1 } : {},
      delivery: role === "sink" ? { settled_epoch: Math.floor(seconds), undelivered_rows: id % 4, waiting_seconds: null } : null,
    };
  });
}
