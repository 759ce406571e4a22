package io.firn.runtime;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;

/** Types that are one JSON value. */
final class Scalars {
    private static final String JODA = "org.joda.time.";

    private Scalars() {}

    /** Types that are their own text and have a factory for it. */
    static boolean isText(Class<?> type) {
        switch (type.getName()) {
            case "java.util.UUID":
            case "java.net.URI":
            case "java.net.URL":
            case "java.util.Currency":
            case "java.util.regex.Pattern":
            case "java.io.File":
            case "java.nio.charset.Charset":
                return true;
            default:
                return isJoda(type) || java.nio.file.Path.class.isAssignableFrom(type);
        }
    }

    static boolean isJoda(Class<?> type) {
        return type.getName().startsWith(JODA);
    }

    static Object fromText(String text, Class<?> type) {
        try {
            switch (type.getName()) {
                case "java.net.URL":
                    return new java.net.URL(text);
                case "java.io.File":
                    return new java.io.File(text);
                case "java.nio.file.Path":
                    return java.nio.file.Path.of(text);
                case "java.util.UUID":
                    return java.util.UUID.fromString(text);
                case "java.net.URI":
                    return java.net.URI.create(text);
                case "java.util.Currency":
                    return java.util.Currency.getInstance(text);
                case "java.util.regex.Pattern":
                    return java.util.regex.Pattern.compile(text);
                case "java.nio.charset.Charset":
                    return java.nio.charset.Charset.forName(text);
                default:
                    // Joda's types: `parse` keeps the offset that the text has.
                    Method parse = type.getMethod("parse", String.class);
                    return parse.invoke(null, text);
            }
        } catch (InvocationTargetException err) {
            throw new JsonException("Cannot deserialize value of type `" + type.getName() + "` from String \"" + text + "\"", err.getCause());
        } catch (ReflectiveOperationException | java.net.MalformedURLException | RuntimeException err) {
            throw new JsonException("Cannot deserialize value of type `" + type.getName() + "` from String \"" + text + "\"", err);
        }
    }

    static boolean isReference(Class<?> type) {
        return type == Optional.class
                || type == OptionalInt.class
                || type == OptionalLong.class
                || type == OptionalDouble.class
                || type == AtomicReference.class
                || type == AtomicBoolean.class;
    }

    static Object dereference(Object value) {
        if (value instanceof Optional) {
            return ((Optional<?>) value).orElse(null);
        }
        if (value instanceof OptionalInt) {
            return ((OptionalInt) value).isPresent() ? ((OptionalInt) value).getAsInt() : null;
        }
        if (value instanceof OptionalLong) {
            return ((OptionalLong) value).isPresent() ? ((OptionalLong) value).getAsLong() : null;
        }
        if (value instanceof OptionalDouble) {
            return ((OptionalDouble) value).isPresent() ? ((OptionalDouble) value).getAsDouble() : null;
        }
        if (value instanceof AtomicBoolean) {
            return ((AtomicBoolean) value).get();
        }
        return ((AtomicReference<?>) value).get();
    }
}
