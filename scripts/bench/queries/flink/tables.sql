-- The topics as Flink reads them; those that a query does not name are not read.
CREATE TABLE transactions (
    event_type STRING,
    `timestamp` TIMESTAMP_LTZ(3),
    transaction_id BIGINT,
    customer_id BIGINT,
    customer_name STRING,
    subscription_plan STRING,
    buyer_id BIGINT,
    buyer_name STRING,
    buyer_email STRING,
    total_amount DECIMAL(12, 2),
    payment_method STRING,
    status STRING,
    items ARRAY<ROW<product_id BIGINT, product_name STRING, category STRING, quantity INT,
                    unit_price DECIMAL(12, 2), product_price DECIMAL(12, 2)>>,
    source STRING,
    WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '10' SECOND
) WITH (${SOURCE}, 'topic' = 'transactions${SUFFIX}');

CREATE TABLE bid (
    auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP_LTZ(3), extra STRING,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
) WITH (${SOURCE}, 'topic' = 'bid${SUFFIX}');

CREATE TABLE auction (
    id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP_LTZ(3),
    expires TIMESTAMP_LTZ(3), seller BIGINT, category BIGINT, extra STRING,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
) WITH (${SOURCE}, 'topic' = 'auction${SUFFIX}');

CREATE TABLE person (
    id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING,
    date_time TIMESTAMP_LTZ(3), extra STRING,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
) WITH (${SOURCE}, 'topic' = 'person${SUFFIX}');
