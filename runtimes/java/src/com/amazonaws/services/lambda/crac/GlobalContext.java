package com.amazonaws.services.lambda.crac;

import io.firn.runtime.HookList;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Runs every hook even if some fail: before the snapshot in reverse order of registration, after the restore in order
 * of registration.
 */
final class GlobalContext extends Context<Resource> implements HookList {
    private final List<Resource> resources = new ArrayList<>();

    @Override
    public synchronized void register(Resource resource) {
        // Registered again, it moves to the end. By identity: org.crac's proxies pass `equals` on to what may be gone.
        for (int i = resources.size() - 1; i >= 0; i--) {
            if (resources.get(i) == resource) {
                resources.remove(i);
            }
        }
        resources.add(resource);
    }

    @Override
    public synchronized boolean isEmpty() {
        return resources.isEmpty();
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws CheckpointException {
        List<Throwable> thrown = new ArrayList<>();
        Resource[] registered = registered();
        for (int i = registered.length - 1; i >= 0; i--) {
            try {
                registered[i].beforeCheckpoint(this);
            } catch (Throwable err) {
                collect(thrown, err, err instanceof CheckpointException);
            }
        }
        if (!thrown.isEmpty()) {
            throw attach(new CheckpointException(message(thrown)), thrown);
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) throws RestoreException {
        List<Throwable> thrown = new ArrayList<>();
        for (Resource resource : registered()) {
            try {
                resource.afterRestore(this);
            } catch (Throwable err) {
                collect(thrown, err, err instanceof RestoreException);
            }
        }
        if (!thrown.isEmpty()) {
            throw attach(new RestoreException(message(thrown)), thrown);
        }
    }

    /** A hook may register more, which then are told of the next event. */
    private synchronized Resource[] registered() {
        return resources.toArray(new Resource[0]);
    }

    /** A nested context throws what its own members threw. */
    private static void collect(List<Throwable> thrown, Throwable err, boolean nested) {
        if (nested && err.getSuppressed().length > 0) {
            thrown.addAll(Arrays.asList(err.getSuppressed()));
        } else {
            thrown.add(err);
        }
    }

    private static String message(List<Throwable> thrown) {
        StringBuilder message = new StringBuilder();
        for (Throwable err : thrown) {
            message.append(message.length() == 0 ? "" : "; ").append(err);
        }
        return message.toString();
    }

    private static <T extends Exception> T attach(T failure, List<Throwable> thrown) {
        for (Throwable err : thrown) {
            failure.addSuppressed(err);
        }
        return failure;
    }
}
