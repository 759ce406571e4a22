package com.amazonaws.services.lambda.crac;

/**
 * The implementation behind {@code org.crac}: that library, which functions package, finds it by the system property
 * {@code org.crac.Core.Compat} and reflection.
 */
public final class Core {
    private static final Context<Resource> GLOBAL = new GlobalContext();

    private Core() {}

    public static Context<Resource> getGlobalContext() {
        return GLOBAL;
    }

    /** Only the platform decides when a snapshot is taken. */
    public static void checkpointRestore() {
        throw new UnsupportedOperationException();
    }
}
