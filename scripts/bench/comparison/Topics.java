import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Makes and reads topics for the benchmarks with Kafka's own client, which neither of the engines uses in this process.
 *
 * One command a line on stdin, its words apart by tabs; one line of answer on stdout, "ok ..." or "error ...":
 *   create TOPIC PARTITIONS [NAME=VALUE]...
 *   delete TOPIC
 *   count TOPIC          records up to the end, markers of transactions among them
 *   times TOPIC FILE     how many records each partition has of each millisecond by their timestamps, into FILE: lines of
 *                        partition, millisecond, count
 *   digest TOPIC FILE    committed rows: their number and a hash that does not depend on their order; the rows go to FILE,
 *                        one a line, in one way of writing, unless FILE is "-"
 */
public final class Topics {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final Pattern MOMENT = Pattern.compile("\\d{4}-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z?");

    private final String servers;
    private final Admin admin;
    private final ObjectMapper json = new ObjectMapper().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

    private Topics(String servers) {
        this.servers = servers;
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        admin = Admin.create(properties);
    }

    public static void main(String[] arguments) throws Exception {
        Topics topics = new Topics(arguments[0]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String answer;
            try {
                answer = "ok\t" + topics.answer(line.split("\t"));
            } catch (Exception problem) {
                answer = "error\t" + problem.toString().replaceAll("\\s+", " ");
            }
            System.out.println(answer);
            System.out.flush();
        }
        topics.admin.close(Duration.ofSeconds(1));
    }

    private String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "create":
                create(words[1], Integer.parseInt(words[2]), List.of(words).subList(3, words.length));
                return "";
            case "delete":
                admin.deleteTopics(List.of(words[1])).all().get();
                return "";
            case "count":
                try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
                    return Long.toString(ends(consumer, words[1]).values().stream().mapToLong(end -> end).sum());
                }
            case "times":
                return times(words[1], words[2]);
            case "digest":
                return digest(words[1], words[2]);
            default:
                throw new IllegalArgumentException("no such command: " + words[0]);
        }
    }

    private void create(String topic, int partitions, List<String> settings) throws Exception {
        Map<String, String> configs = new TreeMap<>();
        settings.forEach(setting -> configs.put(setting.split("=")[0], setting.split("=")[1]));
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        properties.put("max.poll.records", "5000");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Map<TopicPartition, Long> ends(KafkaConsumer<?, ?> consumer, String topic) {
        List<TopicPartition> partitions = new ArrayList<>();
        consumer.partitionsFor(topic).forEach(part -> partitions.add(new TopicPartition(topic, part.partition())));
        return consumer.endOffsets(partitions);
    }

    /** What is done with each record. */
    private interface Visit {
        void record(ConsumerRecord<byte[], byte[]> record) throws Exception;
    }

    private void each(String topic, Visit visit) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            Map<TopicPartition, Long> ends = ends(consumer, topic);
            consumer.assign(ends.keySet());
            consumer.seekToBeginning(ends.keySet());
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (!ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue())) {
                var records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    visit.record(record);
                }
                if (!records.isEmpty()) {
                    deadline = System.nanoTime() + PATIENCE.toNanos();
                } else if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(topic + " cannot be read to its end: an open transaction?");
                }
            }
        }
    }

    private String times(String topic, String file) throws Exception {
        TreeMap<String, Integer> counts = new TreeMap<>();
        each(topic, record -> counts.merge(record.partition() + "\t" + record.timestamp(), 1, Integer::sum));
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(Path.of(file)))) {
            counts.forEach((time, count) -> out.println(time + "\t" + count));
        }
        return "";
    }

    private String digest(String topic, String file) throws Exception {
        MessageDigest md5 = MessageDigest.getInstance("MD5");
        // The number of rows, and their hashes added up in two halves.
        long[] sums = new long[3];
        try (Writer out = file.equals("-") ? Writer.nullWriter() : new PrintWriter(Files.newBufferedWriter(Path.of(file)))) {
            each(topic, record -> {
                String row = canonical(json.readTree(record.value()));
                byte[] hash = md5.digest(row.getBytes(StandardCharsets.UTF_8));
                sums[0]++;
                sums[1] += eight(hash, 0);
                sums[2] += eight(hash, 8);
                out.write(row);
                out.write('\n');
            });
        }
        return sums[0] + "\t" + String.format("%016x%016x", sums[1], sums[2]);
    }

    private static long eight(byte[] bytes, int from) {
        long value = 0;
        for (int at = from; at < from + 8; at++) {
            value = value << 8 | bytes[at] & 0xff;
        }
        return value;
    }

    /** JSON with keys in order, without nulls and needless zeros, and moments written in one way. */
    private static String canonical(JsonNode node) {
        StringBuilder out = new StringBuilder();
        write(node, out);
        return out.toString();
    }

    private static void write(JsonNode node, StringBuilder out) {
        if (node.isObject()) {
            TreeMap<String, JsonNode> fields = new TreeMap<>();
            node.fields().forEachRemaining(field -> fields.put(field.getKey(), field.getValue()));
            fields.values().removeIf(JsonNode::isNull);
            out.append('{');
            String comma = "";
            for (Map.Entry<String, JsonNode> field : fields.entrySet()) {
                out.append(comma).append('"').append(field.getKey()).append("\":");
                write(field.getValue(), out);
                comma = ",";
            }
            out.append('}');
        } else if (node.isArray()) {
            out.append('[');
            String comma = "";
            for (JsonNode item : node) {
                out.append(comma);
                write(item, out);
                comma = ",";
            }
            out.append(']');
        } else if (node.isNumber()) {
            out.append(node.decimalValue().signum() == 0 ? "0" : node.decimalValue().stripTrailingZeros().toPlainString());
        } else if (node.isTextual() && MOMENT.matcher(node.textValue()).matches()) {
            String moment = node.textValue().replace(' ', 'T').replace("Z", "");
            if (moment.indexOf('.') > 0) {
                moment = moment.replaceAll("0+$", "").replaceAll("\\.$", "");
            }
            out.append('"').append(moment).append('"');
        } else {
            out.append(node);
        }
    }
}
