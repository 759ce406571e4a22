package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.CustomPojoSerializer;
import java.io.ByteArrayInputStream;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.ServiceLoader;

/** Between the bytes of an event or answer and objects of one type. */
final class Codec {
    private static final byte[] NULL = {'n', 'u', 'l', 'l'};
    private static CustomPojoSerializer custom;
    private static boolean customSought;

    private final JavaType type;
    private final CustomPojoSerializer serializer;

    private Codec(JavaType type, CustomPojoSerializer serializer) {
        this.type = type;
        this.serializer = serializer;
    }

    static Codec of(JavaType type) {
        return new Codec(type, isVoid(type) ? null : custom());
    }

    private static boolean isVoid(JavaType type) {
        return type.raw == void.class || type.raw == Void.class;
    }

    /** The function may bring its own; asked for once, and only if the package has any service at all. */
    private static synchronized CustomPojoSerializer custom() {
        if (!customSought) {
            customSought = true;
            ClassLoader loader = Thread.currentThread().getContextClassLoader();
            if (loader.getResource("META-INF/services/" + CustomPojoSerializer.class.getName()) != null) {
                Iterator<CustomPojoSerializer> found = ServiceLoader.load(CustomPojoSerializer.class, loader).iterator();
                custom = found.hasNext() ? found.next() : null;
                if (found.hasNext()) {
                    throw Fault.of(new IllegalStateException(
                            "Too many serializers provided inside the META-INF/services folder, only one is allowed"), true);
                }
            }
        }
        return custom;
    }

    Object read(byte[] json) {
        try {
            if (serializer != null) {
                return serializer.fromJson(new ByteArrayInputStream(json), generic());
            }
            return Mapper.read(new String(json, StandardCharsets.UTF_8), type);
        } catch (Throwable err) {
            throw new RuntimeException("An error occurred during JSON parsing", Errors.withoutOwnFrames(err));
        }
    }

    void write(Object value, Output output) {
        try {
            if (isVoid(type)) {
                output.write(NULL, 0, NULL.length);
            } else if (serializer != null) {
                serializer.toJson(value, output, generic());
            } else {
                byte[] json = JsonWriter.write(value, type).getBytes(StandardCharsets.UTF_8);
                output.write(json, 0, json.length);
            }
        } catch (Throwable err) {
            throw new RuntimeException("An error occurred during JSON serialization of response", Errors.withoutOwnFrames(err));
        }
    }

    private Type generic() {
        return type.source();
    }

    /** Looks at the type ahead of the first event. */
    void prepare() {
        if (serializer == null && !isVoid(type)) {
            Bean.prepare(type);
        }
    }
}
