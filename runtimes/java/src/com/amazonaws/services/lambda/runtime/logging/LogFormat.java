package com.amazonaws.services.lambda.runtime.logging;

import java.util.Locale;

/** How {@link com.amazonaws.services.lambda.runtime.LambdaLogger} writes lines. */
public enum LogFormat {
    JSON,
    TEXT;

    public static LogFormat fromString(String logFormat) {
        try {
            return valueOf(logFormat.toUpperCase(Locale.ROOT));
        } catch (RuntimeException err) {
            throw new IllegalArgumentException("Invalid log format: '" + logFormat + "'");
        }
    }
}
