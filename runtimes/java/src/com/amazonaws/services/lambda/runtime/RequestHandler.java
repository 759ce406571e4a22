package com.amazonaws.services.lambda.runtime;

/** A function from one object, read from the event's JSON, to another, written as JSON. */
public interface RequestHandler<I, O> {
    O handleRequest(I input, Context context);
}
