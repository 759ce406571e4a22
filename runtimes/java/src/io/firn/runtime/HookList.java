package io.firn.runtime;

/** Says whether there are hooks around a snapshot. */
public interface HookList {
    boolean isEmpty();
}
