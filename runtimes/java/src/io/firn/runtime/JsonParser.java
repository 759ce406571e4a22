package io.firn.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON to maps, lists, strings, booleans and numbers: Integer, Long or BigInteger, whichever is the smallest to fit,
 * and {@link Decimal}. As lenient as AWS's runtime is: single quotes, names without quotes, leading zeros, control
 * characters in strings, NaN.
 */
final class JsonParser {
    private static final int MAX_DEPTH = 1000;

    private final String text;
    private int position;
    private int depth;

    private JsonParser(String text) {
        this.text = text;
    }

    /** A number with a fraction or exponent, kept as it was written until its target type is known. */
    static final class Decimal extends Number {
        private static final long serialVersionUID = 1;
        private final String text;

        Decimal(String text) {
            this.text = text;
        }

        BigDecimal exact() {
            return new BigDecimal(text);
        }

        @Override
        public double doubleValue() {
            return Double.parseDouble(text);
        }

        @Override
        public float floatValue() {
            return Float.parseFloat(text);
        }

        @Override
        public long longValue() {
            return exact().longValue();
        }

        @Override
        public int intValue() {
            return (int) longValue();
        }

        @Override
        public String toString() {
            return text;
        }
    }

    static Object parse(String text) {
        JsonParser parser = new JsonParser(text);
        parser.skipSpace();
        if (parser.position == text.length()) {
            throw new JsonException("No content to map due to end-of-input");
        }
        Object value = parser.value();
        parser.skipSpace();
        // As AWS's runtime does, what follows the first value is not looked at.
        return value;
    }

    private Object value() {
        char c = peek();
        switch (c) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
            case '\'':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            case 'N':
                return word("NaN", Double.NaN);
            case 'I':
                return word("Infinity", Double.POSITIVE_INFINITY);
            default:
                if (c == '-' || c == '+' || (c >= '0' && c <= '9')) {
                    return number();
                }
                throw unexpected();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> object = new LinkedHashMap<>();
        enter();
        position++;
        skipSpace();
        if (peek() == '}') {
            position++;
        } else {
            while (true) {
                skipSpace();
                String name = name();
                skipSpace();
                take(':');
                skipSpace();
                object.put(name, value());
                skipSpace();
                if (peek() == '}') {
                    position++;
                    break;
                }
                take(',');
            }
        }
        depth--;
        return object;
    }

    private List<Object> array() {
        List<Object> array = new ArrayList<>();
        enter();
        position++;
        skipSpace();
        if (peek() == ']') {
            position++;
        } else {
            while (true) {
                skipSpace();
                array.add(value());
                skipSpace();
                if (peek() == ']') {
                    position++;
                    break;
                }
                take(',');
            }
        }
        depth--;
        return array;
    }

    private void enter() {
        if (++depth > MAX_DEPTH) {
            throw new JsonException("Document nesting depth (" + depth + ") exceeds the maximum allowed (" + MAX_DEPTH + ")");
        }
    }

    private String name() {
        char c = peek();
        if (c == '"' || c == '\'') {
            return string();
        }
        int start = position;
        while (position < text.length() && Character.isJavaIdentifierPart(text.charAt(position))) {
            position++;
        }
        if (position == start) {
            throw unexpected();
        }
        return text.substring(start, position);
    }

    private String string() {
        char quote = text.charAt(position++);
        int start = position;
        while (position < text.length()) {
            char c = text.charAt(position);
            if (c == quote) {
                return text.substring(start, position++);
            }
            if (c == '\\') {
                return escaped(quote, start);
            }
            position++;
        }
        throw end();
    }

    private String escaped(char quote, int start) {
        StringBuilder string = new StringBuilder(text.length() - start < 64 ? 64 : 256);
        string.append(text, start, position);
        while (position < text.length()) {
            char c = text.charAt(position++);
            if (c == quote) {
                return string.toString();
            }
            string.append(c == '\\' ? escape() : c);
        }
        throw end();
    }

    private char escape() {
        char c = peek();
        position++;
        switch (c) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'u':
                return unicode();
            default:
                return c;
        }
    }

    private char unicode() {
        int code = 0;
        for (int i = 0; i < 4; i++) {
            int digit = Character.digit(peek(), 16);
            if (digit < 0) {
                throw unexpected();
            }
            code = code * 16 + digit;
            position++;
        }
        return (char) code;
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, position)) {
            throw unexpected();
        }
        position += word.length();
        return value;
    }

    private Object number() {
        int start = position;
        boolean whole = true;
        char sign = text.charAt(position);
        if (sign == '-' || sign == '+') {
            position++;
            if (position < text.length() && text.charAt(position) == 'I') {
                word("Infinity", null);
                return sign == '-' ? Double.NEGATIVE_INFINITY : Double.POSITIVE_INFINITY;
            }
        }
        for (; position < text.length(); position++) {
            char c = text.charAt(position);
            if (c == '.' || c == 'e' || c == 'E') {
                whole = false;
            } else if ((c < '0' || c > '9') && (whole || (c != '-' && c != '+'))) {
                break;
            }
        }
        String number = text.substring(start, position);
        try {
            return whole ? whole(number) : new Decimal(new BigDecimal(number).toString());
        } catch (NumberFormatException err) {
            position = start;
            throw new JsonException("Malformed numeric value '" + number + "' at character " + (start + 1));
        }
    }

    private static Object whole(String number) {
        // Ten digits fit a long, eighteen do too; beyond that it is tried.
        if (number.length() <= 18) {
            long value = Long.parseLong(number);
            if (value == (int) value) {
                return (int) value;
            }
            return value;
        }
        BigInteger value = new BigInteger(number);
        if (value.bitLength() < 64) {
            return value.longValue();
        }
        return value;
    }

    private char peek() {
        if (position >= text.length()) {
            throw end();
        }
        return text.charAt(position);
    }

    private void take(char wanted) {
        if (peek() != wanted) {
            throw unexpected();
        }
        position++;
    }

    private void skipSpace() {
        while (position < text.length() && text.charAt(position) <= ' ') {
            position++;
        }
    }

    private JsonException unexpected() {
        return new JsonException("Unexpected character ('" + text.charAt(position) + "') at character " + (position + 1));
    }

    private static JsonException end() {
        return new JsonException("Unexpected end-of-input");
    }
}
