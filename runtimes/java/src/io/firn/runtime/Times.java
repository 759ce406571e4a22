package io.firn.runtime;

import java.lang.reflect.InvocationTargetException;
import java.math.BigDecimal;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.Year;
import java.time.YearMonth;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.format.DateTimeParseException;
import java.time.temporal.ChronoField;
import java.time.temporal.TemporalAccessor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** java.time in JSON, in the forms of Jackson's module for it. Apart, because few functions need it. */
final class Times {
    /** ISO 8601 as Jackson reads dates: the time, its seconds and the offset may be missing. */
    private static final DateTimeFormatter LENIENT = new DateTimeFormatterBuilder()
            .append(DateTimeFormatter.ISO_LOCAL_DATE)
            .optionalStart()
            .appendLiteral('T')
            .appendPattern("HH:mm[:ss]")
            .appendFraction(ChronoField.NANO_OF_SECOND, 0, 9, true)
            .optionalStart()
            .appendPattern("[XXX][XX][X]")
            .optionalEnd()
            .optionalEnd()
            .toFormatter();

    private Times() {}

    static long millis(String text) {
        if (text.matches("-?\\d+")) {
            return Long.parseLong(text);
        }
        try {
            TemporalAccessor parsed = LENIENT.parse(text);
            LocalTime time = parsed.isSupported(ChronoField.HOUR_OF_DAY) ? LocalTime.from(parsed) : LocalTime.MIDNIGHT;
            ZoneOffset offset = parsed.isSupported(ChronoField.OFFSET_SECONDS) ? ZoneOffset.from(parsed) : ZoneOffset.UTC;
            return LocalDate.from(parsed).atTime(time).toInstant(offset).toEpochMilli();
        } catch (DateTimeParseException err) {
            throw new JsonException("Cannot deserialize value of type `java.util.Date` from String \"" + text + "\"", err);
        }
    }

    static Object read(Object value, Class<?> type) {
        try {
            if (value instanceof Number) {
                return fromNumber((Number) value, type);
            }
            return value instanceof List ? fromArray((List<?>) value, type) : fromText(value.toString().trim(), type);
        } catch (InvocationTargetException err) {
            throw failure(value, type, err.getCause());
        } catch (ReflectiveOperationException | RuntimeException err) {
            throw failure(value, type, err);
        }
    }

    private static JsonException failure(Object value, Class<?> type, Throwable cause) {
        return new JsonException("Cannot deserialize value of type `" + type.getName() + "` from \"" + value + "\"", cause);
    }

    private static Object fromText(String text, Class<?> type) throws ReflectiveOperationException {
        if (type == ZoneId.class) {
            return ZoneId.of(text);
        }
        if (type == ZoneOffset.class) {
            return ZoneOffset.of(text);
        }
        if (type == Instant.class && !text.endsWith("Z")) {
            return DateTimeFormatter.ISO_OFFSET_DATE_TIME.parse(text, Instant::from);
        }
        if (type == OffsetDateTime.class || type == ZonedDateTime.class) {
            ZonedDateTime parsed = ZonedDateTime.parse(text).withZoneSameInstant(ZoneOffset.UTC);
            return type == ZonedDateTime.class ? parsed : parsed.toOffsetDateTime();
        }
        if (type == LocalDate.class && text.length() > 10 && text.charAt(10) == 'T') {
            return LocalDateTime.parse(text.endsWith("Z") ? text.substring(0, text.length() - 1) : text).toLocalDate();
        }
        return type.getMethod("parse", CharSequence.class).invoke(null, text);
    }

    private static Object fromNumber(Number value, Class<?> type) {
        BigDecimal seconds = new BigDecimal(value.toString());
        long whole = seconds.longValue();
        long nanos = seconds.subtract(BigDecimal.valueOf(whole)).movePointRight(9).longValue();
        switch (type.getSimpleName()) {
            case "Duration":
                return Duration.ofSeconds(whole, nanos);
            case "Year":
                return Year.of((int) whole);
            case "LocalDate":
                return LocalDate.ofEpochDay(whole);
            default:
                Instant instant = Instant.ofEpochSecond(whole, nanos);
                return type == Instant.class
                        ? instant
                        : type == OffsetDateTime.class
                                ? instant.atOffset(ZoneOffset.UTC)
                                : type == ZonedDateTime.class ? instant.atZone(ZoneOffset.UTC) : mismatch(value);
        }
    }

    private static Object mismatch(Object value) {
        throw new DateTimeException("no such form: " + value);
    }

    private static Object fromArray(List<?> value, Class<?> type) {
        int[] n = new int[7];
        for (int i = 0; i < value.size() && i < n.length; i++) {
            n[i] = ((Number) value.get(i)).intValue();
        }
        switch (type.getSimpleName()) {
            case "LocalDate":
                return LocalDate.of(n[0], n[1], n[2]);
            case "LocalTime":
                return LocalTime.of(n[0], n[1], n[2], n[3]);
            case "LocalDateTime":
                return LocalDateTime.of(n[0], n[1], n[2], n[3], n[4], n[5], n[6]);
            case "YearMonth":
                return YearMonth.of(n[0], n[1]);
            default:
                return mismatch(value);
        }
    }

    /** A number, a list of numbers, or text. */
    static Object write(Object value) {
        switch (value.getClass().getSimpleName()) {
            case "Instant":
                return seconds((Instant) value);
            case "OffsetDateTime":
                return seconds(((OffsetDateTime) value).toInstant());
            case "ZonedDateTime":
                return seconds(((ZonedDateTime) value).toInstant());
            case "Duration":
                return decimal(((Duration) value).getSeconds(), ((Duration) value).getNano());
            case "LocalDate":
                LocalDate date = (LocalDate) value;
                return Arrays.asList(date.getYear(), date.getMonthValue(), date.getDayOfMonth());
            case "LocalTime":
                return withTime(new ArrayList<>(), (LocalTime) value);
            case "LocalDateTime":
                LocalDateTime both = (LocalDateTime) value;
                List<Object> parts = new ArrayList<>(Arrays.asList(both.getYear(), both.getMonthValue(), both.getDayOfMonth()));
                return withTime(parts, both.toLocalTime());
            case "Year":
                return ((Year) value).getValue();
            case "YearMonth":
                YearMonth month = (YearMonth) value;
                return Arrays.asList(month.getYear(), month.getMonthValue());
            default:
                return value.toString();
        }
    }

    private static List<Object> withTime(List<Object> parts, LocalTime time) {
        parts.add(time.getHour());
        parts.add(time.getMinute());
        if (time.getSecond() > 0 || time.getNano() > 0) {
            parts.add(time.getSecond());
        }
        if (time.getNano() > 0) {
            parts.add(time.getNano());
        }
        return parts;
    }

    private static BigDecimal seconds(Instant instant) {
        return decimal(instant.getEpochSecond(), instant.getNano());
    }

    private static BigDecimal decimal(long seconds, int nanos) {
        return BigDecimal.valueOf(seconds).add(BigDecimal.valueOf(nanos, 9));
    }
}
