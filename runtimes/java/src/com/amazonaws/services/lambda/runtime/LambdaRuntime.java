package com.amazonaws.services.lambda.runtime;

/** Gives code without a {@link Context} the logger. */
public final class LambdaRuntime {
    private static volatile LambdaLogger logger = io.firn.runtime.Log.shared();

    private LambdaRuntime() {}

    public static LambdaLogger getLogger() {
        return logger;
    }
}
