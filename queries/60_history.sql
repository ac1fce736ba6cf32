-- History: every event and every window's result as Delta tables below DATA_DIR/history, for `acequia query`, for other
-- readers, and for running a query over the past (`acequia run --bounded --from-history`).
--
-- An event is recorded with its place in its topic, so that it can be read again in the order in which it came.

CREATE TABLE transactions_history (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    transaction_id BIGINT NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    subscription_plan TEXT,
    buyer_id BIGINT,
    buyer_name TEXT,
    buyer_email TEXT,
    total_amount DECIMAL(12, 2),
    payment_method TEXT,
    status TEXT,
    items STRUCT<product_id BIGINT, product_name TEXT, category TEXT, quantity INT,
                 unit_price DECIMAL(12, 2), product_price DECIMAL(12, 2)>[],
    source TEXT,
    "partition" INT,
    "offset" BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day', history_of = 'transactions');

INSERT INTO transactions_history
SELECT event_type, "timestamp", transaction_id, customer_id, customer_name, subscription_plan, buyer_id, buyer_name,
       buyer_email, total_amount, payment_method, status, items, source, "partition", "offset",
       CAST("timestamp" AS DATE) AS day
FROM transactions;

CREATE TABLE user_behavior_history (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    interaction_type TEXT,
    channel TEXT,
    status TEXT,
    session_id TEXT,
    product_id BIGINT,
    source TEXT,
    "partition" INT,
    "offset" BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day', history_of = 'user_behavior');

INSERT INTO user_behavior_history
SELECT event_type, "timestamp", customer_id, customer_name, interaction_type, channel, status, session_id, product_id,
       source, "partition", "offset", CAST("timestamp" AS DATE) AS day
FROM user_behavior;

CREATE TABLE searches_history (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    session_id TEXT,
    search_query TEXT,
    results_count BIGINT,
    "partition" INT,
    "offset" BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day', history_of = 'searches');

INSERT INTO searches_history
SELECT event_type, "timestamp", customer_id, customer_name, session_id, search_query, results_count, "partition",
       "offset", CAST("timestamp" AS DATE) AS day
FROM searches;

CREATE TABLE cart_events_history (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    session_id TEXT,
    cart_total DECIMAL(12, 2),
    "partition" INT,
    "offset" BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day', history_of = 'cart_events');

INSERT INTO cart_events_history
SELECT event_type, "timestamp", customer_id, customer_name, session_id, cart_total, "partition", "offset",
       CAST("timestamp" AS DATE) AS day
FROM cart_events;

-- What Redis shows for an hour, for good: one row for each window, when it is final. What is open is in
-- live.transaction_metrics and so on.

CREATE TABLE transaction_metrics (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    transaction_count BIGINT,
    total_revenue DECIMAL(16, 2),
    avg_transaction_value DECIMAL(14, 2),
    unique_customers BIGINT,
    max_transaction DECIMAL(12, 2),
    min_transaction DECIMAL(12, 2),
    day DATE
) WITH (connector = 'delta', partition_by = 'day');

INSERT INTO transaction_metrics
SELECT window['start'], window['end'], transaction_count, total_revenue, avg_transaction_value, unique_customers,
       max_transaction, min_transaction, CAST(window['start'] AS DATE) AS day
FROM transaction_windows;

CREATE TABLE behavior_metrics (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    event_type TEXT,
    event_count BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day');

INSERT INTO behavior_metrics
SELECT window['start'], window['end'], event_type, event_count, CAST(window['start'] AS DATE) AS day
FROM behavior_windows;

CREATE TABLE product_metrics (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    category TEXT,
    product_sales BIGINT,
    category_revenue DECIMAL(16, 2),
    avg_category_value DECIMAL(14, 2),
    total_quantity BIGINT,
    unique_customers BIGINT,
    unique_products BIGINT,
    day DATE
) WITH (connector = 'delta', partition_by = 'day');

INSERT INTO product_metrics
SELECT window['start'], window['end'], category, product_sales, category_revenue, avg_category_value, total_quantity,
       unique_customers, unique_products, CAST(window['start'] AS DATE) AS day
FROM product_windows;
