-- The topics as Acequia reads them; those that a query does not name are not read.
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
    WATERMARK FOR "timestamp" AS "timestamp" - INTERVAL '10 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'transactions${SUFFIX:-}');

CREATE TABLE bid (
    auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'bid${SUFFIX:-}');

CREATE TABLE auction (
    id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'auction${SUFFIX:-}');

CREATE TABLE person (
    id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'kafka', bootstrap_servers = '${BROKER}', topic = 'person${SUFFIX:-}');
