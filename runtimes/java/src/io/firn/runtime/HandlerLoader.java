package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.List;

/**
 * Finds what {@code _HANDLER} names: a class that implements a handler interface, or {@code class::method}. What makes
 * a function unusable is told when it is called; only what the function's own code throws ends the start, as on AWS.
 */
final class HandlerLoader {
    private HandlerLoader() {}

    static Handler load(String name, ClassLoader loader) {
        int colons = name.lastIndexOf("::");
        String className = colons < 0 ? name : name.substring(0, colons);
        String methodName = colons < 0 ? null : name.substring(colons + 2);
        if (className.isEmpty() || (methodName != null && methodName.isEmpty())) {
            return failing(Fault.of("Invalid handler: `" + name + "'"));
        }
        Class<?> type;
        try {
            type = Class.forName(className, true, loader);
        } catch (ClassNotFoundException err) {
            return failing(Fault.classNotFound(className, err));
        } catch (NoClassDefFoundError err) {
            return failing(Fault.loading(className, err));
        } catch (Throwable err) {
            throw Fault.loading(className, err);
        }
        try {
            return methodName == null ? ofClass(type) : ofMethod(type, methodName);
        } catch (Fault fault) {
            if (fault.fatal) {
                throw fault;
            }
            return failing(fault);
        }
    }

    private static Handler failing(Fault fault) {
        return new Handler() {
            @Override
            public void handle(byte[] event, Output output, Context context) {
                throw fault;
            }
        };
    }

    private static Handler ofClass(Class<?> type) {
        if (RequestStreamHandler.class.isAssignableFrom(type)) {
            RequestStreamHandler handler = (RequestStreamHandler) instance(type);
            return new Handlers.Stream(handler);
        }
        if (!RequestHandler.class.isAssignableFrom(type)) {
            throw Fault.of("Class does not implement an appropriate handler interface: " + type.getName());
        }
        JavaType handler = JavaType.of(type).as(RequestHandler.class);
        JavaType[] parameters = handler.declaredArguments();
        if (parameters == null) {
            throw Fault.of("Class " + type.getName() + " does not implement RequestHandler with concrete type parameters");
        }
        @SuppressWarnings("unchecked")
        RequestHandler<Object, Object> made = (RequestHandler<Object, Object>) instance(type);
        return new Handlers.Request(made, Codec.of(parameters[0]), Codec.of(parameters[1]));
    }

    private static Object instance(Class<?> type) {
        Constructor<?> constructor;
        try {
            constructor = type.getConstructor();
        } catch (NoSuchMethodException err) {
            boolean inner = type.getEnclosingClass() != null && !Modifier.isStatic(type.getModifiers());
            throw Fault.of(new Exception(inner
                    ? "Class " + type.getName() + " cannot be instantiated because it is a non-static inner class"
                    : "Class " + type.getName() + " has no public zero-argument constructor", inner ? null : err), false);
        } catch (NoClassDefFoundError err) {
            throw Fault.of(err, false);
        }
        try {
            return constructor.newInstance();
        } catch (InvocationTargetException err) {
            throw Fault.of(err.getCause() == null ? err : err.getCause(), true);
        } catch (ReflectiveOperationException | LinkageError err) {
            throw Fault.of(err, false);
        }
    }

    private static Handler ofMethod(Class<?> type, String name) {
        Method[] methods;
        try {
            methods = type.getMethods();
        } catch (NoClassDefFoundError err) {
            throw Fault.loadingMethod(name, type, err);
        }
        List<Method> candidates = new ArrayList<>();
        for (Method method : methods) {
            if (method.getName().equals(name)) {
                insert(candidates, method);
            }
        }
        for (Method method : candidates) {
            Handler handler = ofSignature(type, method);
            if (handler != null) {
                return handler;
            }
        }
        throw Fault.of("No public method named " + name + " with appropriate method signature found on class " + type.getName());
    }

    /** Before those with a lower rank, behind those with the same. */
    private static void insert(List<Method> sorted, Method method) {
        int place = sorted.size();
        while (place > 0 && rank(sorted.get(place - 1)) < rank(method)) {
            place--;
        }
        sorted.add(place, method);
    }

    /** Methods of the source before the compiler's bridges; longer ones before shorter ones, a context counting twice. */
    private static int rank(Method method) {
        Class<?>[] parameters = method.getParameterTypes();
        int rank = parameters.length;
        if (rank > 0 && parameters[rank - 1] == Context.class) {
            rank++;
        }
        return method.isBridge() ? rank : rank + 100;
    }

    /** {@code null} if the method cannot be a handler. */
    private static Handler ofSignature(Class<?> type, Method method) {
        Class<?>[] raw = method.getParameterTypes();
        int count = raw.length;
        boolean context = count > 0 && raw[count - 1] == Context.class;
        int rest = context ? count - 1 : count;
        boolean streams = rest > 0 && (raw[0] == InputStream.class || raw[0] == OutputStream.class);
        boolean usable = streams
                ? rest == 1 || (rest == 2 && raw[0] == InputStream.class && raw[1] == OutputStream.class)
                : rest <= 1 && (rest == 0 || raw[0] != Context.class);
        if (!usable) {
            System.err.println("Ignoring the overload " + method + ": it has no signature of a handler");
            return null;
        }
        Object instance = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        // A public method of a class that is not public.
        method.setAccessible(true);
        if (streams) {
            return new Handlers.StreamMethod(method, instance, context);
        }
        JavaType owner = JavaType.of(type).as(method.getDeclaringClass());
        owner = owner == null ? JavaType.of(type) : owner;
        Type[] types = method.getGenericParameterTypes();
        Codec input = rest == 0 ? null : Codec.of(owner.resolve(types[0]));
        return new Handlers.PlainMethod(method, instance, input, context, Codec.of(owner.resolve(method.getGenericReturnType())));
    }
}
