import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.util.Arrays;

/** Java's own HTTP client of old: one call of each kind; prints a line for each. */
public class Caller {
    static final byte[] BODY = new byte[100_000];

    public static void main(String[] arguments) throws Exception {
        Arrays.fill(BODY, (byte) 'k');
        String base = arguments[0];
        say("get", open(base + "/bytes/1000", "GET"), 1000);
        HttpURLConnection post = open(base + "/echo", "POST");
        post.setDoOutput(true);
        post.setFixedLengthStreamingMode(BODY.length);
        send("post", post);
        HttpURLConnection chunked = open(base + "/echo", "POST");
        chunked.setDoOutput(true);
        chunked.setChunkedStreamingMode(4096);
        send("chunked", chunked);
        // An answer that begins before the body was sent would reach this client in one piece with the 100.
        HttpURLConnection expect = open(base + "/report", "POST");
        expect.setDoOutput(true);
        expect.setRequestProperty("Expect", "100-continue");
        expect.setFixedLengthStreamingMode(BODY.length);
        write(expect);
        String report = new String(expect.getInputStream().readAllBytes());
        System.out.println("expect " + (report.contains(arguments[1]) ? "ok" : report));
    }

    static HttpURLConnection open(String url, String method) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        connection.setRequestMethod(method);
        return connection;
    }

    static void send(String what, HttpURLConnection connection) throws Exception {
        write(connection);
        say(what, connection, BODY.length);
    }

    static void write(HttpURLConnection connection) throws Exception {
        try (OutputStream stream = connection.getOutputStream()) {
            stream.write(BODY);
        }
    }

    static void say(String what, HttpURLConnection connection, int expected) throws Exception {
        int status = connection.getResponseCode();
        InputStream stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
        byte[] content = stream == null ? new byte[0] : stream.readAllBytes();
        boolean same = expected == 1000 ? content.length == 1000 : Arrays.equals(content, BODY);
        System.out.println(what + " " + (status == 200 && same ? "ok" : status + " " + new String(content)));
    }
}
