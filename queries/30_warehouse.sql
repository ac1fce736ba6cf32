-- Every event of the five topics is one row of the warehouse. Without DWH_URL the warehouse is a SQLite file.
-- id, processed_at and source have defaults there.

CREATE TABLE realtime_events (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    product_id BIGINT,
    product_name TEXT,
    category TEXT,
    amount DECIMAL(12, 2),
    session_id TEXT,
    raw_data TEXT
) WITH (
    connector = 'postgres',
    url = '${DWH_URL:-embedded}',
    migrate = 'warehouse'
);

INSERT INTO realtime_events (event_type, "timestamp", customer_id, customer_name, amount, raw_data)
SELECT event_type, "timestamp", customer_id, customer_name, total_amount, raw FROM transactions;

INSERT INTO realtime_events (event_type, "timestamp", customer_id, customer_name, product_id, product_name, category,
                             amount, raw_data)
SELECT event_type, "timestamp", customer_id, customer_name, product_id, product_name, category, amount, raw
FROM item_events;

INSERT INTO realtime_events (event_type, "timestamp", customer_id, customer_name, product_id, session_id, raw_data)
SELECT event_type, "timestamp", customer_id, customer_name, product_id, session_id, raw FROM user_behavior;

INSERT INTO realtime_events (event_type, "timestamp", customer_id, customer_name, session_id, raw_data)
SELECT event_type, "timestamp", customer_id, customer_name, session_id, raw FROM searches;

INSERT INTO realtime_events (event_type, "timestamp", customer_id, customer_name, amount, session_id, raw_data)
SELECT event_type, "timestamp", customer_id, customer_name, cart_total, session_id, raw FROM cart_events;
