package io.firn.runtime;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.invoke.StringConcatFactory;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.stream.Collectors;

/**
 * Uses what nearly every function uses and what takes the JVM long the first time: strings put together, lambdas,
 * streams, formatting, the time of day, unique names, packages. In a snapshot all of this is done already.
 */
final class Bootstraps {
    private static final Class<?>[][] SHAPES = {
        {String.class},
        {Object.class},
        {int.class},
        {long.class},
        {String.class, String.class},
        {String.class, int.class},
        {String.class, Object.class},
        {Object.class, Object.class},
        {String.class, String.class, String.class},
        {String.class, Object.class, String.class, Object.class},
    };

    private Bootstraps() {}

    static void run() {
        concatenate();
        Map<String, Integer> lengths = List.of("one", "three", "eleven").stream()
                .filter(word -> word.length() > 3)
                .sorted(Comparator.comparing(String::length).reversed())
                .collect(Collectors.toMap(word -> word, String::length));
        lengths.forEach((word, length) -> Optional.of(length).map(Integer::toBinaryString).orElse(word));
        String text = String.format(Locale.ROOT, "%s %d %.2f %5s", "a", 1, 1.5, Instant.now());
        text.replaceAll("[0-9]+", "x").split(",");
        // Sets up the provider of random numbers; what it has read from the kernel is dropped before the snapshot.
        UUID.randomUUID();
        // Those of the JDK are looked up in another way than those of the class path.
        List.class.getPackage().getName();
        Bootstraps.class.getPackage().getName();
    }

    /** As the compiler does for {@code +}: each shape of operands is a method that the JVM makes when it is needed. */
    private static void concatenate() {
        try {
            MethodHandles.Lookup lookup = MethodHandles.lookup();
            for (Class<?>[] shape : SHAPES) {
                MethodType type = MethodType.methodType(String.class, shape);
                String operands = "\u0001 ".repeat(shape.length);
                MethodHandle method = StringConcatFactory.makeConcatWithConstants(lookup, "warm", type, operands).getTarget();
                Object[] values = new Object[shape.length];
                for (int i = 0; i < values.length; i++) {
                    values[i] = shape[i] == int.class ? (Object) 1 : shape[i] == long.class ? (Object) 1L : "x";
                }
                method.invokeWithArguments(values);
            }
        } catch (Throwable err) {
            throw new IllegalStateException(err);
        }
    }
}
