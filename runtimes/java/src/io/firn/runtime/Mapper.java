package io.firn.runtime;

import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Calendar;
import java.util.Collection;
import java.util.Collections;
import java.util.Date;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Queue;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Parsed JSON to objects of a type, with the settings of AWS's runtime: unknown members are ignored, a single value
 * serves as an array and an array of one as its value, empty text or an empty array as no object, and values are
 * converted where one form has another's meaning.
 */
final class Mapper {
    private Mapper() {}

    static Object read(String json, JavaType type) {
        return convert(JsonParser.parse(json), type, false);
    }

    private static Object convert(Object value, JavaType type, boolean inEvent) {
        Class<?> raw = type.raw;
        if (value == null) {
            return absent(raw);
        }
        if (raw == Object.class || raw == java.io.Serializable.class) {
            return untyped(value);
        }
        if (raw == String.class || raw == CharSequence.class) {
            return text(value, raw);
        }
        if (raw.isPrimitive() || Number.class.isAssignableFrom(raw) || raw == Boolean.class || raw == Character.class) {
            return primitive(value, raw);
        }
        if (Map.class.isAssignableFrom(raw)) {
            return map(value, type, inEvent);
        }
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) {
            return collection(value, type, inEvent);
        }
        if (raw.isArray()) {
            return array(value, type, inEvent);
        }
        if (raw.isEnum() || (raw.getSuperclass() != null && raw.getSuperclass().isEnum())) {
            return constant(value, raw);
        }
        return other(value, type, inEvent);
    }

    private static Object other(Object value, JavaType type, boolean inEvent) {
        Class<?> raw = type.raw;
        if (Scalars.isReference(raw) || raw == AtomicReference.class) {
            return reference(value, type, inEvent);
        }
        if (raw == ByteBuffer.class) {
            return ByteBuffer.wrap(base64(value, raw));
        }
        if (Date.class.isAssignableFrom(raw)) {
            return date(value, raw, inEvent);
        }
        if (raw == Calendar.class || raw == java.util.GregorianCalendar.class) {
            Calendar calendar = Calendar.getInstance(TimeZone.getTimeZone("UTC"));
            calendar.setTimeInMillis(((Date) date(value, Date.class, false)).getTime());
            return calendar;
        }
        if (raw.getName().startsWith("java.time.")) {
            return value instanceof String && ((String) value).isEmpty() ? null : Times.read(untyped(value), raw);
        }
        if (raw == Locale.class) {
            return Locale.forLanguageTag(((String) text(value, raw)).replace('_', '-'));
        }
        if (TimeZone.class.isAssignableFrom(raw)) {
            return TimeZone.getTimeZone((String) text(value, raw));
        }
        if (raw == StringBuilder.class) {
            return new StringBuilder((String) text(value, raw));
        }
        if (Scalars.isText(raw)) {
            String text = (String) text(value, raw);
            return text.isEmpty() ? null : Scalars.fromText(text, raw);
        }
        return bean(value, type);
    }

    private static Object absent(Class<?> raw) {
        if (raw.isPrimitive()) {
            return raw == void.class ? null : Array.get(Array.newInstance(raw, 1), 0);
        }
        if (raw == Optional.class) {
            return Optional.empty();
        }
        if (raw == OptionalInt.class) {
            return OptionalInt.empty();
        }
        if (raw == OptionalLong.class) {
            return OptionalLong.empty();
        }
        return raw == OptionalDouble.class ? OptionalDouble.empty() : null;
    }

    /** Numbers with a fraction become doubles, everywhere inside. */
    @SuppressWarnings("unchecked")
    private static Object untyped(Object value) {
        if (value instanceof JsonParser.Decimal) {
            return ((JsonParser.Decimal) value).doubleValue();
        }
        if (value instanceof Map) {
            for (Map.Entry<String, Object> entry : ((Map<String, Object>) value).entrySet()) {
                entry.setValue(untyped(entry.getValue()));
            }
        } else if (value instanceof List) {
            List<Object> list = (List<Object>) value;
            for (int i = 0; i < list.size(); i++) {
                list.set(i, untyped(list.get(i)));
            }
        }
        return value;
    }

    private static Object text(Object value, Class<?> raw) {
        Object single = single(value, raw);
        if (single instanceof Map) {
            throw mismatch(raw, single);
        }
        return String.valueOf(single);
    }

    /** An array of one is its element. */
    private static Object single(Object value, Class<?> raw) {
        if (value instanceof List) {
            List<?> list = (List<?>) value;
            if (list.size() != 1) {
                throw mismatch(raw, value);
            }
            return list.get(0);
        }
        return value;
    }

    private static JsonException mismatch(Class<?> raw, Object value) {
        String form = value instanceof Map ? "Object" : value instanceof List ? "Array" : value instanceof String ? "String" : value.getClass().getSimpleName();
        String shown = value instanceof String ? " \"" + value + "\"" : "";
        return new JsonException("Cannot deserialize value of type `" + raw.getTypeName() + "` from " + form + " value" + shown);
    }

    private static Object primitive(Object given, Class<?> raw) {
        Object value = given instanceof List && ((List<?>) given).isEmpty() ? null : single(given, raw);
        if (value instanceof String) {
            String text = ((String) value).trim();
            if (raw == char.class || raw == Character.class) {
                return ((String) value).isEmpty() ? absent(raw) : ((String) value).charAt(0);
            }
            if (text.isEmpty() || text.equals("null")) {
                return absent(raw);
            }
            if (raw == boolean.class || raw == Boolean.class) {
                return bool(text);
            }
            value = number(text, raw);
        }
        if (value == null) {
            return absent(raw);
        }
        if (raw == boolean.class || raw == Boolean.class) {
            if (value instanceof Number) {
                return ((Number) value).doubleValue() != 0;
            }
            if (value instanceof Boolean) {
                return value;
            }
        } else if (value instanceof Number) {
            return number((Number) value, raw);
        }
        throw mismatch(raw, value);
    }

    private static Boolean bool(String text) {
        switch (text) {
            case "true":
            case "True":
            case "TRUE":
                return true;
            case "false":
            case "False":
            case "FALSE":
                return false;
            default:
                throw mismatch(boolean.class, text);
        }
    }

    private static Number number(String text, Class<?> raw) {
        try {
            switch (text) {
                case "NaN":
                    return Double.NaN;
                case "Infinity":
                case "INF":
                    return Double.POSITIVE_INFINITY;
                case "-Infinity":
                case "-INF":
                    return Double.NEGATIVE_INFINITY;
                default:
                    return new BigDecimal(text);
            }
        } catch (NumberFormatException err) {
            throw mismatch(raw, text);
        }
    }

    private static Object number(Number value, Class<?> raw) {
        switch (raw.getName()) {
            case "int":
            case "java.lang.Integer":
                return (int) ranged(value, Integer.MIN_VALUE, Integer.MAX_VALUE, raw);
            case "long":
            case "java.lang.Long":
                return ranged(value, Long.MIN_VALUE, Long.MAX_VALUE, raw);
            case "short":
            case "java.lang.Short":
                return (short) ranged(value, Short.MIN_VALUE, Short.MAX_VALUE, raw);
            case "byte":
            case "java.lang.Byte":
                // Also what an unsigned byte can be.
                return (byte) ranged(value, Byte.MIN_VALUE, 255, raw);
            case "char":
            case "java.lang.Character":
                return (char) ranged(value, 0, Character.MAX_VALUE, raw);
            case "float":
            case "java.lang.Float":
                return value.floatValue();
            case "double":
            case "java.lang.Double":
                return value.doubleValue();
            case "java.math.BigDecimal":
                return decimal(value);
            case "java.math.BigInteger":
                return decimal(value).toBigInteger();
            case "java.util.concurrent.atomic.AtomicInteger":
                return new AtomicInteger((int) ranged(value, Integer.MIN_VALUE, Integer.MAX_VALUE, raw));
            case "java.util.concurrent.atomic.AtomicLong":
                return new AtomicLong(ranged(value, Long.MIN_VALUE, Long.MAX_VALUE, raw));
            case "java.lang.Number":
                return untyped(value);
            default:
                throw mismatch(raw, value);
        }
    }

    private static BigDecimal decimal(Number value) {
        if (value instanceof JsonParser.Decimal) {
            return ((JsonParser.Decimal) value).exact();
        }
        return value instanceof BigDecimal ? (BigDecimal) value : new BigDecimal(value.toString());
    }

    private static long ranged(Number value, long least, long most, Class<?> raw) {
        long number;
        if (value instanceof Integer || value instanceof Long) {
            number = value.longValue();
        } else {
            if (value instanceof Double && !Double.isFinite((Double) value)) {
                throw mismatch(raw, value);
            }
            BigInteger whole = decimal(value).toBigInteger();
            if (whole.bitLength() > 63) {
                throw outOfRange(value, raw);
            }
            number = whole.longValue();
        }
        if (number < least || number > most) {
            throw outOfRange(value, raw);
        }
        return number;
    }

    private static JsonException outOfRange(Number value, Class<?> raw) {
        return new JsonException("Numeric value (" + value + ") out of range of " + raw.getSimpleName());
    }

    private static Object map(Object value, JavaType type, boolean inEvent) {
        Object given = single(emptyAsNull(value), type.raw);
        if (given == null) {
            return null;
        }
        if (!(given instanceof Map)) {
            throw mismatch(type.raw, given);
        }
        JavaType keys = type.argument(Map.class, 0);
        JavaType values = type.argument(Map.class, 1);
        Map<?, ?> source = (Map<?, ?>) given;
        boolean usual = type.raw == Map.class || type.raw == LinkedHashMap.class || type.raw == HashMap.class || type.raw == java.util.AbstractMap.class;
        if (usual && values.raw == Object.class && (keys.raw == Object.class || keys.raw == String.class)) {
            return untyped(given);
        }
        Map<Object, Object> map = newMap(type.raw);
        for (Map.Entry<?, ?> entry : source.entrySet()) {
            map.put(key((String) entry.getKey(), keys), convert(entry.getValue(), values, inEvent));
        }
        return map;
    }

    private static Object key(String key, JavaType type) {
        return type.raw == Object.class || type.raw == String.class ? key : convert(key, type, false);
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Map<Object, Object> newMap(Class<?> raw) {
        if (raw == SortedMap.class || raw == java.util.NavigableMap.class) {
            return new TreeMap<>();
        }
        if (raw == ConcurrentMap.class) {
            return new ConcurrentHashMap<>();
        }
        if (raw.isAssignableFrom(LinkedHashMap.class)) {
            return new LinkedHashMap<>();
        }
        return (Map<Object, Object>) Bean.of(raw).make();
    }

    private static Object collection(Object value, JavaType type, boolean inEvent) {
        if (value instanceof String && ((String) value).isEmpty()) {
            return null;
        }
        List<?> source = value instanceof List ? (List<?>) value : Collections.singletonList(value);
        JavaType elements = type.argument(type.raw == Iterable.class ? Iterable.class : Collection.class, 0);
        Collection<Object> collection = newCollection(type.raw, source.size());
        for (Object element : source) {
            collection.add(convert(element, elements, inEvent));
        }
        return collection;
    }

    @SuppressWarnings("unchecked")
    private static Collection<Object> newCollection(Class<?> raw, int size) {
        if (raw.isAssignableFrom(ArrayList.class)) {
            return new ArrayList<>(size);
        }
        if (raw.isAssignableFrom(LinkedHashSet.class)) {
            return new LinkedHashSet<>();
        }
        if (raw == SortedSet.class || raw == java.util.NavigableSet.class) {
            return new TreeSet<>();
        }
        if (raw == Queue.class || raw == Deque.class) {
            return new ArrayDeque<>();
        }
        return (Collection<Object>) Bean.of(raw).make();
    }

    private static Object array(Object value, JavaType type, boolean inEvent) {
        Class<?> component = type.raw.getComponentType();
        if (value instanceof String) {
            if (component == byte.class) {
                return base64(value, type.raw);
            }
            if (component == char.class) {
                return ((String) value).toCharArray();
            }
            if (((String) value).isEmpty()) {
                return null;
            }
        }
        List<?> source = value instanceof List ? (List<?>) value : Collections.singletonList(value);
        Object array = Array.newInstance(component, source.size());
        for (int i = 0; i < source.size(); i++) {
            Array.set(array, i, convert(source.get(i), type.component(), inEvent));
        }
        return array;
    }

    private static byte[] base64(Object value, Class<?> raw) {
        if (!(value instanceof String)) {
            throw mismatch(raw, value);
        }
        try {
            return Base64.getDecoder().decode((String) value);
        } catch (IllegalArgumentException err) {
            throw new JsonException("Cannot access contents as base64: " + err.getMessage(), err);
        }
    }

    /** Unknown names are {@code null}; a number counts the constants. */
    private static Object constant(Object given, Class<?> raw) {
        Object value = single(emptyAsNull(given), raw);
        Class<?> type = raw.isEnum() ? raw : raw.getSuperclass();
        Object[] constants = type.getEnumConstants();
        if (value instanceof Integer) {
            int index = (Integer) value;
            return index >= 0 && index < constants.length ? constants[index] : null;
        }
        if (value != null && !(value instanceof String)) {
            throw mismatch(raw, value);
        }
        for (Object constant : constants) {
            if (((Enum<?>) constant).name().equals(value)) {
                return constant;
            }
        }
        return null;
    }

    private static Object reference(Object value, JavaType type, boolean inEvent) {
        Class<?> raw = type.raw;
        if (raw == Optional.class) {
            return Optional.ofNullable(convert(value, type.argument(Optional.class, 0), inEvent));
        }
        if (raw == AtomicReference.class) {
            return new AtomicReference<>(convert(value, type.argument(AtomicReference.class, 0), inEvent));
        }
        if (raw == AtomicBoolean.class) {
            return new AtomicBoolean((Boolean) primitive(value, boolean.class));
        }
        if (raw == OptionalInt.class) {
            return OptionalInt.of((Integer) primitive(value, int.class));
        }
        return raw == OptionalLong.class
                ? OptionalLong.of((Long) primitive(value, long.class))
                : OptionalDouble.of((Double) primitive(value, double.class));
    }

    /** Milliseconds or ISO 8601; in the events of AWS seconds. */
    private static Object date(Object given, Class<?> raw, boolean inEvent) {
        Object value = single(given, raw);
        long millis;
        if (value instanceof Number) {
            double number = ((Number) value).doubleValue();
            millis = inEvent ? Math.round(number * 1000) : ((Number) value).longValue();
            if (inEvent && number == 0) {
                return null;
            }
        } else if (value instanceof String) {
            if (((String) value).isEmpty()) {
                return null;
            }
            millis = Times.millis((String) value);
        } else {
            throw mismatch(raw, value);
        }
        switch (raw.getName()) {
            case "java.sql.Timestamp":
            case "java.sql.Date":
                try {
                    return raw.getConstructor(long.class).newInstance(millis);
                } catch (ReflectiveOperationException err) {
                    throw new JsonException("Cannot construct instance of `" + raw.getName() + "`", err);
                }
            default:
                return new Date(millis);
        }
    }

    private static Object emptyAsNull(Object value) {
        boolean empty = value instanceof List && ((List<?>) value).isEmpty() || value instanceof String && ((String) value).isEmpty();
        return empty ? null : value;
    }

    private static Object bean(Object given, JavaType type) {
        Object value = single(emptyAsNull(given), type.raw);
        if (value == null) {
            return null;
        }
        if (!(value instanceof Map)) {
            throw mismatch(type.raw, value);
        }
        Map<?, ?> members = (Map<?, ?>) value;
        Bean bean = Bean.of(type.raw);
        if (bean.components() != null) {
            return whole(bean, members, type);
        }
        Object made = bean.make();
        for (Map.Entry<?, ?> member : members.entrySet()) {
            Bean.Property property = bean.property((String) member.getKey());
            if (property != null && property.isWritable()) {
                JavaType wanted = owner(type, property).resolve(property.type);
                property.set(made, convert(member.getValue(), wanted, bean.isEvent));
            }
        }
        return made;
    }

    /** Members of a generic superclass are seen through it. */
    private static JavaType owner(JavaType type, Bean.Property property) {
        if (property.type instanceof Class) {
            return type;
        }
        JavaType owner = type.as(property.owner());
        return owner == null ? type : owner;
    }

    private static Object whole(Bean bean, Map<?, ?> members, JavaType type) {
        Bean.Property[] components = bean.components();
        java.lang.reflect.Type[] types = bean.genericComponentTypes();
        Object[] values = new Object[components.length];
        for (int i = 0; i < components.length; i++) {
            values[i] = absent(type.resolve(types[i]).raw);
        }
        for (Map.Entry<?, ?> member : members.entrySet()) {
            Bean.Property property = bean.property((String) member.getKey());
            for (int i = 0; i < components.length; i++) {
                if (components[i] == property) {
                    values[i] = convert(member.getValue(), type.resolve(types[i]), bean.isEvent);
                }
            }
        }
        return bean.make(values);
    }
}
