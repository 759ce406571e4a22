package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.Context;

/** The function, as something from bytes to bytes. */
interface Handler {
    void handle(byte[] event, Output output, Context context) throws Throwable;

    /** Gets ready what the first event would have to, without calling the function's code. */
    default void prepare() {}
}
