package com.amazonaws.services.lambda.crac;

/** Something that wants to know of a snapshot. */
public interface Resource {
    void afterRestore(Context<? extends Resource> context) throws Exception;

    void beforeCheckpoint(Context<? extends Resource> context) throws Exception;
}
