package io.firn.runtime;

import java.io.ByteArrayOutputStream;

/** Bytes to be sent, copied once. */
final class Output extends ByteArrayOutputStream {
    private static final int MAX_KEPT_BYTES = 1024 * 1024;

    Output(int size) {
        super(size);
    }

    void copyTo(byte[] target, int offset) {
        System.arraycopy(buf, 0, target, offset, count);
    }

    /** Empties it; a large answer's memory is not kept for the next. */
    void clear() {
        reset();
        if (buf.length > MAX_KEPT_BYTES) {
            buf = new byte[1024];
        }
    }
}
