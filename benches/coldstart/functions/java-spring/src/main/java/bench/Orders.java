package bench;

import java.util.Map;
import org.springframework.stereotype.Service;

@Service
public class Orders {
    public Map<String, Object> find(Map<String, Object> request) {
        if (request.get("sleep_ms") instanceof Number sleep) {
            try {
                Thread.sleep(sleep.longValue());
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
        return Map.of("id", request.getOrDefault("id", 0), "state", "shipped");
    }
}
