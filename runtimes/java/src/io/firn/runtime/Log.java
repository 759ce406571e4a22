package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.logging.LogFormat;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.nio.charset.StandardCharsets;

/** The function's logger: to the framed log descriptor if the platform gives one, else to standard output. */
public final class Log implements LambdaLogger {
    // Frame types end in the level: 2 is JSON, 3 is text, plus 4 times the level's number.
    private static final int TEXT_FRAME = 0xA55A0003;
    private static final int JSON_FRAME = 0xA55A0002;
    private static final int HEADER_BYTES = 16;
    private static final Log SHARED = open();

    private final LogLevel lowest = LogLevel.fromString(variable("AWS_LAMBDA_LOG_LEVEL", "UNDEFINED"));
    private final boolean json = LogFormat.fromString(variable("AWS_LAMBDA_LOG_FORMAT", "TEXT")) == LogFormat.JSON;
    private final boolean framed;
    private final OutputStream sink;
    private volatile Context context;

    private Log(OutputStream sink, boolean framed) {
        this.sink = sink;
        this.framed = framed;
    }

    private static Log open() {
        FileDescriptor descriptor = telemetry(System.getenv("_LAMBDA_TELEMETRY_LOG_FD"));
        return descriptor == null
                ? new Log(new FileOutputStream(FileDescriptor.out), false)
                : new Log(new FileOutputStream(descriptor), true);
    }

    /** One that only goes through the motions. */
    static Log toNowhere() {
        return new Log(OutputStream.nullOutputStream(), SHARED.framed);
    }

    /** The one logger of this process. */
    public static Log shared() {
        return SHARED;
    }

    private static String variable(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** The jar's manifest opens java.io to this. */
    private static FileDescriptor telemetry(String number) {
        if (number == null) {
            return null;
        }
        try {
            Constructor<FileDescriptor> constructor = FileDescriptor.class.getDeclaredConstructor(int.class);
            constructor.setAccessible(true);
            return constructor.newInstance(Integer.parseInt(number));
        } catch (ReflectiveOperationException | RuntimeException err) {
            return null;
        }
    }

    /** Whose request id the lines in JSON carry. */
    void enter(Context context) {
        this.context = context;
    }

    /** What the platform logs for an error that the function did not catch. */
    void error(String message) {
        log(message, json ? LogLevel.ERROR : LogLevel.UNDEFINED);
    }

    @Override
    public void log(String message) {
        log(message, LogLevel.UNDEFINED);
    }

    @Override
    public void log(byte[] message) {
        log(message, LogLevel.UNDEFINED);
    }

    @Override
    public void log(String message, LogLevel level) {
        if (enabled(level)) {
            String text = json ? structured(message, level) : plain(message, level);
            write(text.getBytes(StandardCharsets.UTF_8), level);
        }
    }

    @Override
    public void log(byte[] message, LogLevel level) {
        if (enabled(level)) {
            write(message == null ? new byte[] {'n', 'u', 'l', 'l'} : message, level);
        }
    }

    private boolean enabled(LogLevel level) {
        return level == LogLevel.UNDEFINED || level.ordinal() >= lowest.ordinal();
    }

    private static String plain(String message, LogLevel level) {
        return level == LogLevel.UNDEFINED ? String.valueOf(message) : "[" + level.name() + "] " + message;
    }

    private String structured(String message, LogLevel level) {
        StringBuilder line = new StringBuilder(160).append("{\"timestamp\":\"");
        appendTime(line, System.currentTimeMillis());
        line.append("\",\"message\":");
        JsonWriter.quote(line, String.valueOf(message));
        line.append(",\"level\":\"").append(level.name()).append('"');
        Context current = context;
        if (current != null) {
            line.append(",\"AWSRequestId\":");
            JsonWriter.quote(line, String.valueOf(current.getAwsRequestId()));
            if (current.getTenantId() != null) {
                line.append(",\"tenantId\":");
                JsonWriter.quote(line, current.getTenantId());
            }
        }
        return line.append("}\n").toString();
    }

    /** One write for each, so that lines of threads do not mix. */
    private synchronized void write(byte[] message, LogLevel level) {
        try {
            if (!framed) {
                sink.write(message);
                return;
            }
            byte[] frame = new byte[HEADER_BYTES + message.length];
            long millis = System.currentTimeMillis();
            put(frame, 0, (json ? JSON_FRAME : TEXT_FRAME) + 4 * level.ordinal(), 4);
            put(frame, 4, message.length, 4);
            put(frame, 8, millis * 1000, 8);
            System.arraycopy(message, 0, frame, HEADER_BYTES, message.length);
            sink.write(frame);
        } catch (IOException err) {
            // There is no better place to tell it.
            err.printStackTrace();
        }
    }

    private static void put(byte[] target, int offset, long value, int bytes) {
        for (int i = 0; i < bytes; i++) {
            target[offset + i] = (byte) (value >>> (8 * (bytes - 1 - i)));
        }
    }

    /** {@code 2026-01-31T23:59:59.123Z}; java.time's formatters take long to load. */
    private static void appendTime(StringBuilder out, long millis) {
        long days = Math.floorDiv(millis, 86_400_000L);
        int ofDay = (int) Math.floorMod(millis, 86_400_000L);
        // Civil date from days, in eras of 400 years that begin in March.
        long shifted = days + 719_468;
        long era = Math.floorDiv(shifted, 146_097L);
        int dayOfEra = (int) (shifted - era * 146_097);
        int yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365;
        int dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
        int month = (5 * dayOfYear + 2) / 153;
        int day = dayOfYear - (153 * month + 2) / 5 + 1;
        month = month < 10 ? month + 3 : month - 9;
        digits(out, (int) (yearOfEra + era * 400) + (month <= 2 ? 1 : 0), 4).append('-');
        digits(out, month, 2).append('-');
        digits(out, day, 2).append('T');
        digits(out, ofDay / 3_600_000, 2).append(':');
        digits(out, ofDay / 60_000 % 60, 2).append(':');
        digits(out, ofDay / 1000 % 60, 2).append('.');
        digits(out, ofDay % 1000, 3).append('Z');
    }

    private static StringBuilder digits(StringBuilder out, int value, int width) {
        String text = Integer.toString(value);
        for (int i = text.length(); i < width; i++) {
            out.append('0');
        }
        return out.append(text);
    }
}
