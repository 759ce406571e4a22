package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;

/** The kinds of handlers. */
final class Handlers {
    private Handlers() {}

    static final class Stream implements Handler {
        private final RequestStreamHandler handler;

        Stream(RequestStreamHandler handler) {
            this.handler = handler;
        }

        @Override
        public void handle(byte[] event, Output output, Context context) throws Throwable {
            handler.handleRequest(new ByteArrayInputStream(event), output, context);
        }
    }

    static final class Request implements Handler {
        private final RequestHandler<Object, Object> handler;
        private final Codec input;
        private final Codec output;

        Request(RequestHandler<Object, Object> handler, Codec input, Codec output) {
            this.handler = handler;
            this.input = input;
            this.output = output;
        }

        @Override
        public void handle(byte[] event, Output output, Context context) {
            this.output.write(handler.handleRequest(input.read(event), context), output);
        }

        @Override
        public void prepare() {
            input.prepare();
            output.prepare();
        }
    }

    /** {@code input} is {@code null} for a method that takes no event. */
    static final class PlainMethod implements Handler {
        private final Method method;
        private final Object instance;
        private final Codec input;
        private final boolean withContext;
        private final Codec output;

        PlainMethod(Method method, Object instance, Codec input, boolean withContext, Codec output) {
            this.method = method;
            this.instance = instance;
            this.input = input;
            this.withContext = withContext;
            this.output = output;
        }

        @Override
        public void handle(byte[] event, Output output, Context context) throws Throwable {
            Object value = input == null ? null : input.read(event);
            Object[] arguments = input == null
                    ? withContext ? new Object[] {context} : new Object[0]
                    : withContext ? new Object[] {value, context} : new Object[] {value};
            this.output.write(invoke(method, instance, arguments), output);
        }

        @Override
        public void prepare() {
            if (input != null) {
                input.prepare();
            }
            output.prepare();
        }
    }

    /** What such a method returns is of no use. */
    static final class StreamMethod implements Handler {
        private final Method method;
        private final Object instance;
        private final boolean withContext;

        StreamMethod(Method method, Object instance, boolean withContext) {
            this.method = method;
            this.instance = instance;
            this.withContext = withContext;
        }

        @Override
        public void handle(byte[] event, Output output, Context context) throws Throwable {
            Class<?>[] types = method.getParameterTypes();
            Object[] arguments = new Object[types.length];
            for (int i = 0; i < types.length; i++) {
                if (types[i] == InputStream.class) {
                    arguments[i] = new ByteArrayInputStream(event);
                } else {
                    arguments[i] = withContext && i == types.length - 1 ? context : output;
                }
            }
            invoke(method, instance, arguments);
        }
    }

    private static Object invoke(Method method, Object instance, Object[] arguments) throws Throwable {
        try {
            return method.invoke(instance, arguments);
        } catch (InvocationTargetException err) {
            throw err.getCause() == null ? err : err.getCause();
        }
    }
}
