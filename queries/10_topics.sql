-- The shop's topics: written from its databases (05_shop.sql), and read once, whatever the number of queries below, from
-- their beginning. Without KAFKA_BROKERS an embedded Kafka takes their place.

CREATE TABLE transactions (
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
    raw TEXT METADATA FROM 'value',
    "partition" INT METADATA FROM 'partition',
    "offset" BIGINT METADATA FROM 'offset',
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'transactions',
    key_field = 'customer_id',
    'source.offset' = 'earliest',
    bad_rows = 'dead_letters'
);

-- Two databases are read at their own pace into this one topic. After a halt the few rows of the CRM are all there before
-- the shop's of the same hour: if they moved the watermark, those would be late. So time is what the shop's rows say.
CREATE TABLE user_behavior (
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
    raw TEXT METADATA FROM 'value',
    "partition" INT METADATA FROM 'partition',
    "offset" BIGINT METADATA FROM 'offset',
    WATERMARK FOR "timestamp" AS CASE WHEN source IS DISTINCT FROM 'crm' THEN "timestamp" - INTERVAL '10 seconds' END
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'user_behavior',
    key_field = 'customer_id',
    'source.offset' = 'earliest',
    bad_rows = 'dead_letters'
);

CREATE TABLE searches (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    session_id TEXT,
    search_query TEXT,
    results_count BIGINT,
    raw TEXT METADATA FROM 'value',
    "partition" INT METADATA FROM 'partition',
    "offset" BIGINT METADATA FROM 'offset',
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'searches',
    key_field = 'customer_id',
    'source.offset' = 'earliest',
    bad_rows = 'dead_letters'
);

-- event_type is 'cart_event' or 'cart_abandonment'.
CREATE TABLE cart_events (
    event_type TEXT NOT NULL,
    "timestamp" TIMESTAMP NOT NULL,
    customer_id BIGINT,
    customer_name TEXT,
    session_id TEXT,
    cart_total DECIMAL(12, 2),
    raw TEXT METADATA FROM 'value',
    "partition" INT METADATA FROM 'partition',
    "offset" BIGINT METADATA FROM 'offset',
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (
    connector = 'kafka',
    bootstrap_servers = '${KAFKA_BROKERS:-embedded}',
    topic = 'cart_events',
    key_field = 'customer_id',
    'source.offset' = 'earliest',
    bad_rows = 'dead_letters'
);

-- Records that could not be read, from whichever topic, as they came.
CREATE TABLE dead_letters (
    "table" TEXT,
    reason TEXT,
    error TEXT,
    topic TEXT,
    "partition" INT,
    "offset" BIGINT,
    "timestamp" TIMESTAMP,
    "key" TEXT,
    value TEXT
) WITH (
    connector = 'file',
    path = '${DEAD_LETTERS:-acequia-data/dead_letters.jsonl}'
);
