package io.firn.runtime;

import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * Runs Jackson ahead of a snapshot, with a mapper of its own, where the function has loaded it: most frameworks read and
 * write every event with it. No code of the function runs.
 */
final class Jackson {
    private static final String MAPPER = "com.fasterxml.jackson.databind.ObjectMapper";
    private static final String SAMPLE =
        "{\"id\":17,\"share\":0.5,\"flag\":true,\"none\":null,\"list\":[1,\"a\"],\"nested\":{\"key\":\"value\"}}";
    // Enough for the JVM to compile what is called often; some tens of milliseconds.
    private static final int ROUNDS = 50;

    private Jackson() {}

    static void exercise(TaskClassLoader loader) {
        if (!loader.found().contains(MAPPER)) {
            return;
        }
        try {
            Class<?> type = Class.forName(MAPPER, true, loader);
            for (int i = 0; i < ROUNDS; i++) {
                exercise(type, type.getConstructor().newInstance());
            }
        } catch (ReflectiveOperationException | LinkageError err) {
            // One that is not whole, or that is older or newer than this knows: the first event meets it cold.
            return;
        }
    }

    private static void exercise(Class<?> type, Object mapper) throws ReflectiveOperationException {
        byte[] bytes = SAMPLE.getBytes(StandardCharsets.UTF_8);
        Object tree = type.getMethod("readTree", String.class).invoke(mapper, SAMPLE);
        type.getMethod("readTree", byte[].class).invoke(mapper, (Object) bytes);
        Object map = type.getMethod("readValue", String.class, Class.class).invoke(mapper, SAMPLE, Map.class);
        type.getMethod("readValue", byte[].class, Class.class).invoke(mapper, bytes, Map.class);
        type.getMethod("writeValueAsString", Object.class).invoke(mapper, tree);
        type.getMethod("writeValueAsString", Object.class).invoke(mapper, map);
        type.getMethod("writeValueAsBytes", Object.class).invoke(mapper, map);
    }
}
