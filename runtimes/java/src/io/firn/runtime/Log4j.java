package io.firn.runtime;

import java.lang.reflect.Method;

/** Gives Log4j the request id, as aws-lambda-java-log4j expects. */
final class Log4j {
    private static final String[][] CONTEXTS = {
        {"org.apache.logging.log4j.ThreadContext", "java.lang.String"},
        {"org.apache.log4j.MDC", "java.lang.Object"},
    };

    private Log4j() {}

    static void enter(String requestId) {
        ClassLoader loader = Thread.currentThread().getContextClassLoader();
        boolean told = false;
        for (String[] context : CONTEXTS) {
            try {
                Class<?> value = Class.forName(context[1]);
                Method put = Class.forName(context[0], true, loader).getMethod("put", String.class, value);
                put.invoke(null, "AWSRequestId", requestId);
                told = true;
            } catch (ReflectiveOperationException | LinkageError err) {
                // Only one of the two is there, as a rule.
                continue;
            }
        }
        if (!told) {
            System.err.println("Log4j's context is not to be found: its lines will have no request id");
        }
    }
}
