package io.firn.runtime;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;

/** Errors in the forms that the platform, X-Ray and the log want. */
final class Errors {
    private static final String OWN = "io.firn.runtime.";

    private Errors() {}

    static String message(Throwable err) {
        String message = err.getLocalizedMessage();
        return message == null ? err.getClass().getName() : message;
    }

    /** Removes the frames of this client, and those below, from an error and all that is attached to it. */
    static <T extends Throwable> T withoutOwnFrames(T err) {
        filter(err, Collections.newSetFromMap(new IdentityHashMap<>()));
        return err;
    }

    private static void filter(Throwable err, Set<Throwable> seen) {
        if (err == null || !seen.add(err)) {
            return;
        }
        StackTraceElement[] frames = err.getStackTrace();
        for (int i = 0; i < frames.length; i++) {
            if (frames[i].getClassName().startsWith(OWN)) {
                StackTraceElement[] kept = new StackTraceElement[i];
                System.arraycopy(frames, 0, kept, 0, i);
                err.setStackTrace(kept);
                break;
            }
        }
        filter(err.getCause(), seen);
        for (Throwable suppressed : err.getSuppressed()) {
            filter(suppressed, seen);
        }
    }

    static String trace(Throwable err) {
        StringWriter text = new StringWriter();
        withoutOwnFrames(err).printStackTrace(new PrintWriter(text));
        return text.toString();
    }

    /** The answer of a failed invocation: {@code errorMessage}, {@code errorType}, {@code stackTrace}, {@code cause}. */
    static Output json(Throwable err) {
        StringBuilder out = new StringBuilder(512);
        if (err instanceof Fault) {
            Fault fault = (Fault) err;
            out.append("{\"errorMessage\":");
            JsonWriter.quote(out, fault.getMessage());
            if (fault.exception != null) {
                out.append(",\"errorType\":");
                JsonWriter.quote(out, fault.exception);
            }
            out.append('}');
        } else {
            append(out, err, 0);
        }
        return bytes(out);
    }

    private static void append(StringBuilder out, Throwable err, int depth) {
        out.append("{\"errorMessage\":");
        JsonWriter.quote(out, message(err));
        out.append(",\"errorType\":");
        JsonWriter.quote(out, err.getClass().getName());
        out.append(",\"stackTrace\":[");
        boolean first = true;
        for (StackTraceElement frame : err.getStackTrace()) {
            if (!first) {
                out.append(',');
            }
            first = false;
            JsonWriter.quote(out, frame.toString());
        }
        out.append(']');
        Throwable cause = err.getCause();
        if (cause != null && depth < 10) {
            out.append(",\"cause\":");
            append(out, cause, depth + 1);
        }
        out.append('}');
    }

    static Output bytes(CharSequence text) {
        byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
        Output output = new Output(bytes.length);
        output.write(bytes, 0, bytes.length);
        return output;
    }

    /** What X-Ray shows. It travels in a header, so it must be one line of ASCII. */
    static String xrayCause(Throwable err) {
        StringBuilder out = new StringBuilder(512).append("{\"working_directory\":");
        JsonWriter.quote(out, System.getProperty("user.dir"));
        out.append(",\"exceptions\":[{\"message\":");
        JsonWriter.quote(out, String.valueOf(err.getMessage()));
        out.append(",\"type\":");
        JsonWriter.quote(out, err.getClass().getName());
        out.append(",\"stack\":[");
        StackTraceElement[] frames = err.getStackTrace();
        for (int i = 0; i < frames.length; i++) {
            out.append(i == 0 ? "" : ",").append("{\"label\":");
            JsonWriter.quote(out, frames[i].getMethodName());
            out.append(",\"path\":");
            JsonWriter.quote(out, file(frames[i]));
            out.append(",\"line\":").append(frames[i].getLineNumber()).append('}');
        }
        out.append("]}],\"paths\":[");
        Set<String> paths = new java.util.LinkedHashSet<>();
        for (StackTraceElement frame : frames) {
            paths.add(file(frame));
        }
        boolean first = true;
        for (String path : paths) {
            out.append(first ? "" : ",");
            first = false;
            JsonWriter.quote(out, path);
        }
        return ascii(out.append("]}"));
    }

    private static String file(StackTraceElement frame) {
        if (frame.getFileName() != null) {
            return frame.getFileName();
        }
        String name = frame.getClassName();
        return name.substring(name.lastIndexOf('.') + 1) + ".java";
    }

    private static String ascii(StringBuilder text) {
        StringBuilder out = new StringBuilder(text.length());
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < 0x7f) {
                out.append(c);
            } else {
                out.append("\\u");
                for (int shift = 12; shift >= 0; shift -= 4) {
                    out.append(Character.forDigit((c >> shift) & 15, 16));
                }
            }
        }
        return out.toString();
    }
}
