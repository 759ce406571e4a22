package io.firn.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.HashMap;
import java.util.Map;

/** A class and what its type variables stand for. */
final class JavaType {
    static final JavaType OBJECT = new JavaType(Object.class, Map.of(), Object.class);

    final Class<?> raw;
    private final Map<TypeVariable<?>, JavaType> variables;
    private final Type source;

    private JavaType(Class<?> raw, Map<TypeVariable<?>, JavaType> variables, Type source) {
        this.raw = raw;
        this.variables = variables;
        this.source = source;
    }

    /** As reflection knows it. */
    Type source() {
        return source;
    }

    static JavaType of(Type type) {
        return of(type, Map.of());
    }

    /** {@code type} as seen from a member of this one. */
    JavaType resolve(Type type) {
        return of(type, variables);
    }

    private static JavaType of(Type type, Map<TypeVariable<?>, JavaType> known) {
        if (type instanceof Class) {
            return type == Object.class ? OBJECT : new JavaType((Class<?>) type, Map.of(), type);
        }
        if (type instanceof ParameterizedType) {
            ParameterizedType parameterized = (ParameterizedType) type;
            Class<?> raw = (Class<?>) parameterized.getRawType();
            Type[] arguments = parameterized.getActualTypeArguments();
            TypeVariable<?>[] parameters = raw.getTypeParameters();
            Map<TypeVariable<?>, JavaType> variables = new HashMap<>();
            for (int i = 0; i < parameters.length; i++) {
                variables.put(parameters[i], of(arguments[i], known));
            }
            return new JavaType(raw, variables, type);
        }
        if (type instanceof TypeVariable) {
            JavaType value = known.get(type);
            return value != null ? value : bound((TypeVariable<?>) type);
        }
        if (type instanceof WildcardType) {
            return of(((WildcardType) type).getUpperBounds()[0], known);
        }
        if (type instanceof GenericArrayType) {
            JavaType element = of(((GenericArrayType) type).getGenericComponentType(), known);
            return new JavaType(Array.newInstance(element.raw, 0).getClass(), element.variables, type);
        }
        return OBJECT;
    }

    /** A bound may mention the variable itself, as in {@code T extends Comparable<T>}. */
    private static JavaType bound(TypeVariable<?> variable) {
        Type bound = variable.getBounds()[0];
        Class<?> raw = bound instanceof ParameterizedType ? (Class<?>) ((ParameterizedType) bound).getRawType() : of(bound).raw;
        return new JavaType(raw, Map.of(), variable);
    }

    /** What the elements of an array are. */
    JavaType component() {
        return new JavaType(raw.getComponentType(), variables, raw.getComponentType());
    }

    /** What the type variable number {@code index} of {@code ancestor} is for this type; Object if nothing tells. */
    JavaType argument(Class<?> ancestor, int index) {
        JavaType found = as(ancestor);
        if (found == null) {
            return OBJECT;
        }
        JavaType argument = found.variables.get(ancestor.getTypeParameters()[index]);
        return argument == null ? OBJECT : argument;
    }

    /** What the type variables of this type's class stand for; {@code null} if one of them can be anything. */
    JavaType[] declaredArguments() {
        TypeVariable<?>[] parameters = raw.getTypeParameters();
        JavaType[] arguments = new JavaType[parameters.length];
        for (int i = 0; i < parameters.length; i++) {
            arguments[i] = variables.get(parameters[i]);
            boolean open = arguments[i] == null || (arguments[i].raw == Object.class && arguments[i].source != Object.class);
            if (open) {
                return null;
            }
        }
        return arguments;
    }

    /** This type seen as one of its supertypes; {@code null} if it is none. */
    JavaType as(Class<?> ancestor) {
        if (raw == ancestor) {
            return this;
        }
        if (!ancestor.isAssignableFrom(raw)) {
            return null;
        }
        if (ancestor.isInterface()) {
            for (Type type : raw.getGenericInterfaces()) {
                JavaType found = resolve(type).as(ancestor);
                if (found != null) {
                    return found;
                }
            }
        }
        Type parent = raw.getGenericSuperclass();
        return parent == null ? null : resolve(parent).as(ancestor);
    }

    @Override
    public String toString() {
        return raw.getName();
    }
}
