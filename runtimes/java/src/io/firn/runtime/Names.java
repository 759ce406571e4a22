package io.firn.runtime;

import java.lang.reflect.Field;
import java.net.InetAddress;
import java.util.Collection;
import java.util.Map;

/** The JVM's memory of host names, which a restored process must not trust. */
final class Names {
    private Names() {}

    static void forget() {
        clear("cache");
        clear("expirySet");
    }

    /** The fields differ between versions of Java; one that is missing had nothing to forget. */
    private static void clear(String name) {
        try {
            Field field = InetAddress.class.getDeclaredField(name);
            field.setAccessible(true);
            Object value = field.get(null);
            if (value instanceof Map) {
                ((Map<?, ?>) value).clear();
            } else if (value instanceof Collection) {
                ((Collection<?>) value).clear();
            }
        } catch (ReflectiveOperationException | RuntimeException err) {
            return;
        }
    }
}
