-- One record a window.
CREATE TABLE window_topic (
    "timestamp" TIMESTAMP, transactions BIGINT, revenue DECIMAL(16, 2), highest DECIMAL(12, 2), lowest DECIMAL(12, 2),
    customers BIGINT
) WITH (connector = 'kafka', bootstrap_servers = '${KAFKA_BROKERS}', topic = 'window_totals');

INSERT INTO window_topic
SELECT window['start'], transactions, revenue, highest, lowest, customers FROM windows;
