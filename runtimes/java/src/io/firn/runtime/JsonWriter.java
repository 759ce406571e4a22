package io.firn.runtime;

import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.util.Base64;
import java.util.Calendar;
import java.util.Collection;
import java.util.Date;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.Locale;
import java.util.Map;
import java.util.TimeZone;

/**
 * Objects to JSON, with the settings of AWS's runtime: members of beans and entries of maps that are {@code null} are
 * left out, dates are numbers, NaN is a string.
 */
final class JsonWriter {
    private static final int MAX_DEPTH = 1000;
    private static final char[] HEX = "0123456789ABCDEF".toCharArray();

    private final StringBuilder out;
    private final Map<Object, Boolean> parents = new IdentityHashMap<>();
    private int depth;
    private boolean inEvent;

    private JsonWriter(StringBuilder out) {
        this.out = out;
    }

    /** A bean is written as {@code declared} knows it, everything else as what it is: as AWS's runtime does. */
    static String write(Object value, JavaType declared) {
        JsonWriter writer = new JsonWriter(new StringBuilder(256));
        if (value != null && declared != null && declared.raw.isInstance(value) && isBean(declared.raw)) {
            writer.bean(value, Bean.of(declared.raw));
        } else {
            writer.value(value);
        }
        return writer.out.toString();
    }

    static String write(Object value) {
        return write(value, null);
    }

    static boolean isBean(Class<?> type) {
        return type != Object.class
                && !type.isArray()
                && !type.isEnum()
                && !type.isPrimitive()
                && !type.getName().startsWith("java.")
                && !Map.class.isAssignableFrom(type)
                && !Iterable.class.isAssignableFrom(type)
                && !Iterator.class.isAssignableFrom(type)
                && !CharSequence.class.isAssignableFrom(type)
                && !Number.class.isAssignableFrom(type)
                && !Date.class.isAssignableFrom(type)
                && !Scalars.isJoda(type);
    }

    private void value(Object value) {
        if (value == null) {
            out.append("null");
        } else if (value instanceof String) {
            quote(out, (String) value);
        } else if (value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof Number && value.getClass().getName().startsWith("java.")) {
            number((Number) value);
        } else if (value instanceof Map) {
            map((Map<?, ?>) value);
        } else if (value instanceof Collection) {
            elements(value, ((Collection<?>) value).iterator());
        } else {
            other(value);
        }
    }

    private void other(Object value) {
        Class<?> type = value.getClass();
        if (value instanceof Enum) {
            quote(out, ((Enum<?>) value).name());
        } else if (value instanceof Character || value instanceof CharSequence) {
            quote(out, value.toString());
        } else if (type.isArray()) {
            array(value);
        } else if (value instanceof JsonParser.Decimal) {
            out.append(value);
        } else if (value instanceof ByteBuffer) {
            ByteBuffer buffer = ((ByteBuffer) value).duplicate();
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            quote(out, Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof Date) {
            long millis = ((Date) value).getTime();
            if (inEvent) {
                out.append(millis / 1000.0);
            } else {
                out.append(millis);
            }
        } else if (value instanceof Calendar) {
            out.append(((Calendar) value).getTimeInMillis());
        } else if (value instanceof Class) {
            quote(out, ((Class<?>) value).getName());
        } else if (value instanceof TimeZone) {
            quote(out, ((TimeZone) value).getID());
        } else if (value instanceof Locale || Scalars.isText(type)) {
            quote(out, value.toString());
        } else if (type.getName().startsWith("java.time.")) {
            value(Times.write(value));
        } else if (Scalars.isReference(type)) {
            value(Scalars.dereference(value));
        } else if (value instanceof Map.Entry) {
            Map.Entry<?, ?> entry = (Map.Entry<?, ?>) value;
            map(java.util.Collections.singletonMap(entry.getKey(), entry.getValue()));
        } else if (value instanceof Iterable && !Bean.of(type).hasProperties()) {
            elements(value, ((Iterable<?>) value).iterator());
        } else if (value instanceof Iterator) {
            elements(value, (Iterator<?>) value);
        } else {
            bean(value, Bean.of(type));
        }
    }

    private void number(Number value) {
        if (value instanceof Double || value instanceof Float) {
            double number = value.doubleValue();
            if (Double.isNaN(number) || Double.isInfinite(number)) {
                out.append('"').append(value).append('"');
                return;
            }
        }
        // BigDecimal too in its own notation, which JSON has as well; atomic numbers as what they hold.
        out.append(value instanceof BigDecimal ? value.toString() : String.valueOf(value));
    }

    private void map(Map<?, ?> map) {
        enter(map);
        out.append('{');
        boolean first = true;
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            Object key = entry.getKey();
            if (key == null) {
                throw new JsonException("Null key for a Map not allowed in JSON");
            }
            if (entry.getValue() != null) {
                first = separate(first);
                quote(out, key(key));
                out.append(':');
                value(entry.getValue());
            }
        }
        out.append('}');
        leave(map);
    }

    private static String key(Object key) {
        if (key instanceof Enum) {
            return ((Enum<?>) key).name();
        }
        if (key instanceof Class) {
            return ((Class<?>) key).getName();
        }
        if (key instanceof Date) {
            return java.time.Instant.ofEpochMilli(((Date) key).getTime()).toString();
        }
        return key.toString();
    }

    private void elements(Object owner, Iterator<?> elements) {
        enter(owner);
        out.append('[');
        boolean first = true;
        while (elements.hasNext()) {
            first = separate(first);
            value(elements.next());
        }
        out.append(']');
        leave(owner);
    }

    private void array(Object array) {
        if (array instanceof byte[]) {
            quote(out, Base64.getEncoder().encodeToString((byte[]) array));
            return;
        }
        if (array instanceof char[]) {
            quote(out, new String((char[]) array));
            return;
        }
        enter(array);
        out.append('[');
        int length = Array.getLength(array);
        for (int i = 0; i < length; i++) {
            separate(i == 0);
            value(Array.get(array, i));
        }
        out.append(']');
        leave(array);
    }

    private void bean(Object value, Bean bean) {
        boolean outer = inEvent;
        inEvent = bean.isEvent;
        enter(value);
        out.append('{');
        boolean first = true;
        for (Bean.Property property : bean.properties) {
            Object member = property.isReadable() ? property.get(value) : null;
            // An empty Optional is written, as null: only a null itself is left out.
            if (member != null) {
                first = separate(first);
                quote(out, property.jsonName);
                out.append(':');
                value(member);
            }
        }
        out.append('}');
        leave(value);
        inEvent = outer;
    }

    private boolean separate(boolean first) {
        if (!first) {
            out.append(',');
        }
        return false;
    }

    private void enter(Object container) {
        if (parents.put(container, Boolean.TRUE) != null) {
            throw new JsonException("Direct self-reference leading to cycle: " + container.getClass().getName());
        }
        if (++depth > MAX_DEPTH) {
            throw new JsonException("Document nesting depth (" + depth + ") exceeds the maximum allowed (" + MAX_DEPTH + ")");
        }
    }

    private void leave(Object container) {
        depth--;
        parents.remove(container);
    }

    /** Only what JSON demands is escaped, everything else is written as it is. */
    static void quote(StringBuilder out, String text) {
        out.append('"');
        int done = 0;
        int length = text.length();
        for (int i = 0; i < length; i++) {
            char c = text.charAt(i);
            if (c < ' ' || c == '"' || c == '\\') {
                out.append(text, done, i);
                done = i + 1;
                escape(out, c);
            }
        }
        out.append(text, done, length).append('"');
    }

    private static void escape(StringBuilder out, char c) {
        switch (c) {
            case '"':
            case '\\':
                out.append('\\').append(c);
                break;
            case '\b':
                out.append("\\b");
                break;
            case '\f':
                out.append("\\f");
                break;
            case '\n':
                out.append("\\n");
                break;
            case '\r':
                out.append("\\r");
                break;
            case '\t':
                out.append("\\t");
                break;
            default:
                out.append("\\u00").append(HEX[c >> 4]).append(HEX[c & 15]);
        }
    }
}
