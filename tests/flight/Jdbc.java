// What a Java program and a BI tool do by JDBC, against the server that the test has started.
//   java -cp flight-sql-jdbc-driver.jar Jdbc.java URL
// The server has one place for queries: each must be given back before the next.

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.sql.*;
import java.util.*;

public class Jdbc {
    static final String ENDLESS = "SELECT a.transaction_id FROM transactions_history a"
        + " CROSS JOIN transactions_history b CROSS JOIN transactions_history c";

    public static void main(String[] args) throws Exception {
        try (Connection connection = DriverManager.getConnection(args[0])) {
            statements(connection);
            prepared(connection);
            refusals(connection);
            names(connection.getMetaData());
            answers(connection.getMetaData());
            cancelled(connection);
        }
        System.out.println("jdbc: all is well");
    }

    static void statements(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SELECT * FROM transactions_history WHERE transaction_id = 7")) {
            check(rows.next(), true);
            check(rows.getLong("transaction_id"), 7L);
            check(rows.getLong("customer_id"), 7L);
            check(rows.getBigDecimal("amount"), new BigDecimal("7.50"));
            check(rows.getString("status"), "paid");
            check(rows.getTimestamp("timestamp", Calendar.getInstance(TimeZone.getTimeZone("UTC"))).toInstant().toString(),
                "2026-11-29T12:00:07Z");
            check(rows.getDate("day").toString(), "2026-11-29");
            check(rows.getMetaData().getColumnCount(), 7);
            check(rows.getMetaData().getColumnName(3), "amount");
            check(rows.getMetaData().getColumnType(3), Types.DECIMAL);
            check(rows.next(), false);
        }
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SELECT transaction_id FROM transactions_history WHERE false")) {
            check(rows.next(), false);
        }
    }

    static void prepared(Connection connection) throws SQLException {
        String sql = "SELECT transaction_id, amount FROM transactions_history"
            + " WHERE status = ? AND amount >= ? AND \"timestamp\" < ? AND customer_id IN (?, ?)"
            + " ORDER BY transaction_id LIMIT ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            ParameterMetaData parameters = statement.getParameterMetaData();
            check(parameters.getParameterCount(), 6);
            for (int limit = 1; limit <= 2; limit++) {
                statement.setString(1, "paid");
                statement.setBigDecimal(2, new BigDecimal("10.00"));
                statement.setTimestamp(3, Timestamp.valueOf("2026-11-30 00:00:00"));
                statement.setLong(4, 1);
                statement.setLong(5, 3);
                statement.setLong(6, limit);
                List<Long> found = new ArrayList<>();
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) found.add(rows.getLong(1));
                }
                check(found, limit == 1 ? List.of(11L) : List.of(11L, 13L));
            }
        }
    }

    static void refusals(Connection connection) throws SQLException {
        for (String sql : List.of("DROP TABLE transactions_history", "INSERT INTO transactions_history SELECT * FROM"
                + " transactions_history", "SELECT missing FROM transactions_history", "SET a = 1")) {
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery(sql);
                throw new AssertionError(sql + " was not refused");
            } catch (SQLException refused) {
                check(refused.getMessage().contains("error: "), true, refused.getMessage());
            }
        }
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        try (rows) {
            while (rows.next()) values.add(rows.getString(name));
        }
        return values;
    }

    static void names(DatabaseMetaData metadata) throws SQLException {
        check(metadata.getDatabaseProductName(), "Acequia");
        check(metadata.isReadOnly(), true);
        check(metadata.supportsTransactions(), false);
        check(metadata.getIdentifierQuoteString(), "\"");
        check(column(metadata.getCatalogs(), "TABLE_CAT"), List.of("acequia"));
        check(column(metadata.getSchemas(), "TABLE_SCHEM"), List.of("history", "live"));
        check(column(metadata.getTableTypes(), "TABLE_TYPE"), List.of("TABLE", "VIEW"));
        check(column(metadata.getTables("acequia", "history", "%", null), "TABLE_NAME"), List.of("transactions",
            "transactions_history"));
        check(column(metadata.getTables(null, null, "transactions\\_%", new String[] {"TABLE"}), "TABLE_NAME"),
            List.of("transactions_history"));
        check(column(metadata.getColumns("acequia", "history", "transactions\\_history", "%"), "COLUMN_NAME"),
            List.of("transaction_id", "customer_id", "amount", "status", "timestamp", "day",
                "offset"));
        try (ResultSet columns = metadata.getColumns(null, "history", "transactions_history", "amount")) {
            check(columns.next(), true);
            check(columns.getInt("DATA_TYPE"), Types.DECIMAL);
            check(columns.getInt("DECIMAL_DIGITS"), 2);
            check(columns.next(), false);
        }
        check(column(metadata.getPrimaryKeys("acequia", "history", "transactions_history"), "COLUMN_NAME"), List.of());
        check(column(metadata.getImportedKeys("acequia", "history", "transactions_history"), "FKCOLUMN_NAME"), List.of());
    }

    /** Every question that can be asked without an argument has an answer: tools ask many. */
    static void answers(DatabaseMetaData metadata) throws Exception {
        int asked = 0;
        for (Method method : DatabaseMetaData.class.getMethods()) {
            if (method.getParameterCount() > 0 || method.getDeclaringClass() != DatabaseMetaData.class) continue;
            try {
                Object answer = method.invoke(metadata);
                if (answer instanceof ResultSet rows) rows.close();
                asked++;
            } catch (InvocationTargetException failed) {
                // The driver itself has no answer to these, whatever a server says.
                if (failed.getCause() instanceof SQLFeatureNotSupportedException) continue;
                throw new AssertionError("no answer to " + method.getName(), failed.getCause());
            }
        }
        check(asked > 100, true, "asked " + asked);
    }

    /** The only place is free again: within a while, since the server hears of it from the connection. */
    static void cancelled(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(ENDLESS);
            check(rows.next(), true);
            statement.cancel();
            try {
                while (rows.next()) { }
                throw new AssertionError("a cancelled query came to its end");
            } catch (SQLException cancelled) {
                System.out.println("cancelled: " + cancelled.getMessage());
            }
        }
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(ENDLESS);
            check(rows.next(), true);
            // Closed before its end.
            rows.close();
        }
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT 1")) {
                check(rows.next(), true);
                return;
            } catch (SQLException busy) {
                check(System.nanoTime() < deadline && busy.getMessage().contains("--max-queries"), true, busy.getMessage());
            }
        }
    }

    static void check(Object found, Object wanted, Object... more) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("found " + found + ", wanted " + wanted + " " + Arrays.toString(more));
        }
    }
}
