import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Flink's client of the benchmarks: plans SQL and gives it to the session cluster, as Flink's SQL client does, without
 * starting a JVM each time. The first argument is the folder with config.yaml.
 *
 * One command a line on stdin, its words apart by tabs; one line of answer on stdout, "ok ..." or "error ...":
 *   run FILE             every statement of the file; the answer is the id of the job of the last one
 *   explain FILE         the plan of the last statement, on stderr
 */
public final class Submit {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = GlobalConfiguration.loadConfiguration(arguments[0]);
        configuration.setString("execution.target", "remote");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split("\t");
            String answer;
            try {
                answer = "ok\t" + run(configuration, Files.readString(Path.of(words[1])), words[0].equals("explain"));
            } catch (Throwable problem) {
                problem.printStackTrace();
                answer = "error\t" + root(problem).toString().replaceAll("\\s+", " ");
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    private static Throwable root(Throwable problem) {
        return problem.getCause() == null ? problem : root(problem.getCause());
    }

    private static String run(Configuration configuration, String sql, boolean explain) {
        EnvironmentSettings settings =
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build();
        TableEnvironment tables = TableEnvironment.create(settings);
        String job = "";
        for (String statement : sql.replaceAll("(?m)--.*$", "").split(";\\s*(\n|$)")) {
            if (statement.isBlank()) {
                continue;
            }
            if (explain && statement.strip().startsWith("INSERT")) {
                System.err.println(tables.explainSql(statement));
                continue;
            }
            TableResult result = tables.executeSql(statement);
            job = result.getJobClient().map(client -> client.getJobID().toString()).orElse(job);
        }
        return job;
    }
}
