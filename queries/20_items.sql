-- One event for each item of a transaction, written back to Kafka.

CREATE VIEW items AS
SELECT
    "timestamp",
    transaction_id,
    customer_id,
    customer_name,
    subscription_plan AS customer_subscription,
    buyer_id,
    buyer_name,
    buyer_email,
    item['product_id'] AS product_id,
    item['product_name'] AS product_name,
    item['category'] AS category,
    CAST(item['quantity'] * item['unit_price'] AS DECIMAL(12, 2)) AS amount,
    item['quantity'] AS quantity,
    item['unit_price'] AS unit_price,
    total_amount AS total_transaction_amount,
    payment_method,
    status AS transaction_status,
    source
FROM (
    SELECT
        "timestamp", transaction_id, customer_id, customer_name, subscription_plan, buyer_id, buyer_name, buyer_email,
        total_amount, payment_method, status, source, unnest(items) AS item
    FROM transactions
);

CREATE TABLE transaction_items (
    event_type TEXT,
    "timestamp" TIMESTAMP,
    transaction_id BIGINT,
    customer_id BIGINT,
    customer_name TEXT,
    customer_subscription TEXT,
    buyer_id BIGINT,
    buyer_name TEXT,
    buyer_email TEXT,
    product_id BIGINT,
    product_name TEXT,
    category TEXT,
    amount DECIMAL(12, 2),
    quantity INT,
    unit_price DECIMAL(12, 2),
    total_transaction_amount DECIMAL(12, 2),
    payment_method TEXT,
    transaction_status TEXT,
    source TEXT
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'transaction_items',
    key_field = 'customer_id'
);

INSERT INTO transaction_items
SELECT
    'transaction_item', "timestamp", transaction_id, customer_id, customer_name, customer_subscription,
    buyer_id, buyer_name, buyer_email, product_id, product_name, category, amount, quantity, unit_price,
    total_transaction_amount, payment_method, transaction_status, source
FROM items;

-- The same topic as a source: what the warehouse keeps of an item is the record as other readers see it.
CREATE TABLE item_events (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    product_id BIGINT,
    product_name TEXT,
    category TEXT,
    amount DECIMAL(12, 2),
    raw TEXT METADATA FROM 'value'
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'transaction_items',
    'source.offset' = 'earliest',
    bad_rows = 'dead_letters'
);
