import java.util.Map;

public class Hello {
    public static Map<String, String> handle(Map<String, String> event) {
        return Map.of("message", "Hello, " + event.getOrDefault("name", "world") + "!");
    }
}
