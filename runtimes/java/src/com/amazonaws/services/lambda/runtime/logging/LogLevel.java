package com.amazonaws.services.lambda.runtime.logging;

import java.util.Locale;

/** Levels in rising order; {@code UNDEFINED} is never filtered. */
public enum LogLevel {
    UNDEFINED,
    TRACE,
    DEBUG,
    INFO,
    WARN,
    ERROR,
    FATAL;

    public static LogLevel fromString(String logLevel) {
        try {
            return valueOf(logLevel.toUpperCase(Locale.ROOT));
        } catch (RuntimeException err) {
            throw new IllegalArgumentException("Invalid log level: '" + logLevel + "'");
        }
    }
}
