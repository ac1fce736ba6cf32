-- The warehouse of InstaShop. A table that is already there is kept as it is.
CREATE TABLE IF NOT EXISTS realtime_events (
    id            SERIAL PRIMARY KEY,
    event_type    VARCHAR(50) NOT NULL,
    timestamp     TIMESTAMP NOT NULL,
    customer_id   INTEGER,
    customer_name VARCHAR(255),
    product_id    INTEGER,
    product_name  VARCHAR(255),
    category      VARCHAR(100),
    amount        DECIMAL(12, 2),
    session_id    VARCHAR(255),
    raw_data      JSONB,
    processed_at  TIMESTAMP DEFAULT now(),
    source        VARCHAR(50) DEFAULT 'kafka_consumer'
);
CREATE INDEX IF NOT EXISTS realtime_events_timestamp ON realtime_events (timestamp);
CREATE INDEX IF NOT EXISTS realtime_events_event_type ON realtime_events (event_type);
CREATE INDEX IF NOT EXISTS realtime_events_customer_id ON realtime_events (customer_id);
CREATE INDEX IF NOT EXISTS realtime_events_product_id ON realtime_events (product_id);

-- One row a closed session window; outcome is conversion, cart_abandonment or bounce.
CREATE TABLE IF NOT EXISTS customer_sessions (
    session_id   VARCHAR(100) PRIMARY KEY,
    customer_id  BIGINT,
    session_data JSONB,
    outcome      VARCHAR(50),
    timestamp    TIMESTAMP
);
