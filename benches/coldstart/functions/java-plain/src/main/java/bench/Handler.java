package bench;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

/** A handler without a framework. */
public final class Handler implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if (event.get("sleep_ms") instanceof Number sleep) {
            try {
                Thread.sleep(sleep.longValue());
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
        return Map.of("function", context.getFunctionName(), "memory", context.getMemoryLimitInMB());
    }
}
