package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.crac.Core;
import org.crac.Resource;

public class Prices implements RequestHandler<Prices.Request, Prices.Answer>, Resource {
    public record Request(String item) {}

    public record Answer(String item, int cents, String connection, String loaded, int dice) {}

    // Loaded once, for the snapshot: every environment starts with it.
    private final Map<String, Integer> prices = load();
    private final String loaded = Instant.now().toString();
    private final Random dice = new Random();
    private String connection = "opened by the init";

    public Prices() {
        Core.getGlobalContext().register(this);
    }

    @Override
    public void beforeCheckpoint(org.crac.Context<? extends Resource> context) {
        System.out.println("before the snapshot: close the connection");
        connection = null;
    }

    @Override
    public void afterRestore(org.crac.Context<? extends Resource> context) {
        connection = "opened at " + Instant.now();
        // The numbers of a generator that is in the snapshot would be the same everywhere.
        dice.setSeed(new SecureRandom().nextLong());
        System.out.println("after the restore: " + connection);
    }

    @Override
    public Answer handleRequest(Request request, Context context) {
        Integer cents = prices.get(request.item());
        if (cents == null) {
            throw new IllegalArgumentException("no price for " + request.item());
        }
        return new Answer(request.item(), cents, connection, loaded, 1 + dice.nextInt(6));
    }

    private static Map<String, Integer> load() {
        Map<String, Integer> prices = new TreeMap<>();
        for (String item : "tea coffee cocoa".split(" ")) {
            prices.put(item, 100 + item.length() * 25);
        }
        return prices;
    }
}
