package com.amazonaws.services.lambda.crac;

/** Hooks failed before a snapshot; what they threw is suppressed in it. */
public class CheckpointException extends Exception {
    private static final long serialVersionUID = 1;

    public CheckpointException() {}

    public CheckpointException(String message) {
        super(message);
    }
}
