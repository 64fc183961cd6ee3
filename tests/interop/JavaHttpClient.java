import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;

/** Java's HTTP and WebSocket client with default settings, which offer h2c with every request without TLS. */
class JavaHttpClient {
  static final String URL = System.getenv("FRAMELOOP_URL");
  static final HttpClient CLIENT = HttpClient.newHttpClient();
  static int passed, failed;

  public static void main(String[] arguments) {
    check("plain page", () -> is(200, get("/").statusCode()));
    check("health", () -> is("ok", get("/healthz").body()));
    check("several requests", () -> {
      for (int request = 0; request < 10; request++) is(200, get("/").statusCode());
    });
    check("Socket.IO polling", () -> {
      String polling = "/socket.io/?EIO=4&transport=polling";
      HttpResponse<String> open = get(polling);
      is(200, open.statusCode());
      String sid = open.body().split("\"")[3];
      HttpRequest post = request(polling + "&sid=" + sid).POST(BodyPublishers.ofString("40")).build();
      HttpResponse<String> posted = CLIENT.send(post, BodyHandlers.ofString());
      is(200, posted.statusCode());
      is("ok", posted.body());
    });
    check("an unknown path", () -> is(404, get("/no/such/path").statusCode()));
    check("a WebSocket", () -> {
      CompletableFuture<String> echo = new CompletableFuture<>();
      URI uri = URI.create(URL.replaceFirst("^http", "ws") + "/echo");
      WebSocket socket = CLIENT.newWebSocketBuilder().subprotocols("chat").buildAsync(uri, new WebSocket.Listener() {
        @Override public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean isLast) {
          echo.complete(text.toString());
          return null;
        }
      }).get(10, TimeUnit.SECONDS);
      is("chat", socket.getSubprotocol());
      socket.sendText("hello", true);
      is("hello", echo.get(10, TimeUnit.SECONDS));
      socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(10, TimeUnit.SECONDS);
    });
    System.out.printf("%d passed, %d failed, 0 skipped%n", passed, failed);
    System.exit(failed == 0 ? 0 : 1);
  }

  interface Case {
    void run() throws Exception;
  }

  static void check(String name, Case one) {
    try {
      one.run();
      passed++;
    } catch (Exception | AssertionError error) {
      failed++;
      System.out.println("FAILED " + name + ": " + error);
    }
  }

  static HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(URI.create(URL + path));
  }

  static HttpResponse<String> get(String path) throws Exception {
    return CLIENT.send(request(path).GET().build(), BodyHandlers.ofString());
  }

  static void is(Object expected, Object actual) {
    if (!expected.equals(actual)) throw new AssertionError("expected " + expected + ", got " + actual);
  }
}
