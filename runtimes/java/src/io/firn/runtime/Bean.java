package io.firn.runtime;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * What of a class is in its JSON: public getters, setters of any visibility, public fields, the components of a record.
 * In the order of the fields, those of superclasses first. Annotations do not count, as AWS's runtime, which brings its
 * own copy of Jackson, does not see a function's.
 */
final class Bean {
    private static final Map<Class<?>, Bean> KNOWN = new HashMap<>();

    final Class<?> type;
    final boolean isEvent;
    final Property[] properties;
    private final Map<String, Property> byName = new HashMap<>();
    /** The components in order, if the class is made with all its values at once. */
    private final Property[] components;
    private final Constructor<?> constructor;

    /** One member of the JSON object. */
    static final class Property {
        final String name;
        String jsonName;
        private Field field;
        private Method getter;
        private Method setter;
        /** What the setter takes. */
        java.lang.reflect.Type type;

        Property(String name) {
            this.name = name;
            jsonName = name;
        }

        /** The class that declares what {@link #type} is about. */
        Class<?> owner() {
            return setter != null ? setter.getDeclaringClass() : field.getDeclaringClass();
        }

        boolean isReadable() {
            return getter != null || field != null;
        }

        boolean isWritable() {
            return setter != null || field != null;
        }

        Object get(Object bean) {
            try {
                return getter != null ? getter.invoke(bean) : field.get(bean);
            } catch (InvocationTargetException err) {
                throw new JsonException(failure(bean, err.getCause()), err.getCause());
            } catch (IllegalAccessException err) {
                throw new JsonException(failure(bean, err), err);
            }
        }

        void set(Object bean, Object value) {
            try {
                if (setter != null) {
                    setter.invoke(bean, value);
                } else {
                    field.set(bean, value);
                }
            } catch (InvocationTargetException err) {
                throw new JsonException(failure(bean, err.getCause()), err.getCause());
            } catch (IllegalAccessException | IllegalArgumentException err) {
                throw new JsonException(failure(bean, err), err);
            }
        }

        private String failure(Object bean, Throwable cause) {
            return cause + " (through reference chain: " + bean.getClass().getName() + "[\"" + jsonName + "\"])";
        }
    }

    /** The caches are filled by the first use; two threads would fill them alike. */
    static Bean of(Class<?> type) {
        synchronized (KNOWN) {
            Bean bean = KNOWN.get(type);
            if (bean == null) {
                bean = new Bean(type);
                KNOWN.put(type, bean);
            }
            return bean;
        }
    }

    /** Looks at a type and at what its members are, without making one. */
    static void prepare(JavaType type) {
        Class<?> raw = type.raw;
        if (raw.isArray()) {
            prepare(type.component());
        } else if (java.util.Collection.class.isAssignableFrom(raw)) {
            prepare(type.argument(java.util.Collection.class, 0));
        } else if (Map.class.isAssignableFrom(raw)) {
            prepare(type.argument(Map.class, 1));
        } else if (JsonWriter.isBean(raw) && !isKnown(raw)) {
            for (Property property : of(raw).properties) {
                if (property.type != null) {
                    prepare(type.resolve(property.type));
                }
            }
        }
    }

    private static boolean isKnown(Class<?> type) {
        synchronized (KNOWN) {
            return KNOWN.containsKey(type);
        }
    }

    private Bean(Class<?> type) {
        this.type = type;
        isEvent = EventNames.isEvent(type);
        Map<String, Property> found = new LinkedHashMap<>();
        List<Property> fields = new ArrayList<>();
        collectFields(type, found, fields);
        boolean record = type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
        if (record) {
            collectComponents(found, fields);
        } else {
            collectMethods(type, found);
        }
        List<Property> usable = new ArrayList<>();
        for (Property property : found.values()) {
            if (property.isReadable() || property.isWritable()) {
                usable.add(property);
            }
            if (isEvent) {
                property.jsonName = EventNames.of(type, property.name);
            }
        }
        byName.putAll(found);
        properties = usable.toArray(new Property[0]);
        // Some event types can only be made whole; their constructors take the fields in order.
        Constructor<?> whole = record || (isEvent && !allWritable(fields)) ? constructorOf(fields) : null;
        Constructor<?> plain = record ? null : plainConstructor();
        components = whole == null ? null : fields.toArray(new Property[0]);
        constructor = whole == null ? plain : whole;
        if (constructor != null) {
            constructor.setAccessible(true);
        }
    }

    boolean hasProperties() {
        return properties.length > 0;
    }

    Property property(String name) {
        return byName.get(isEvent ? EventNames.loose(name) : name);
    }

    /** The components of a class that is made at once; {@code null} if it is made empty and then filled. */
    Property[] components() {
        return components;
    }

    java.lang.reflect.Type[] genericComponentTypes() {
        return constructor.getGenericParameterTypes();
    }

    Object make(Object... values) {
        if (constructor == null || Modifier.isAbstract(type.getModifiers())) {
            String why = constructor == null && !type.isInterface() ? "no default constructor" : "an abstract type";
            throw new JsonException("Cannot construct instance of `" + type.getName() + "`: " + why);
        }
        try {
            return constructor.newInstance(values);
        } catch (InvocationTargetException err) {
            throw new JsonException("Cannot construct instance of `" + type.getName() + "`, problem: " + err.getCause(), err.getCause());
        } catch (ReflectiveOperationException | IllegalArgumentException err) {
            throw new JsonException("Cannot construct instance of `" + type.getName() + "`, problem: " + err, err);
        }
    }

    private static boolean allWritable(List<Property> properties) {
        for (Property property : properties) {
            if (!property.isWritable()) {
                return false;
            }
        }
        return true;
    }

    /** In the events of AWS, getters and setters do not always agree on a name's letters. */
    private Property property(Map<String, Property> found, String name) {
        String key = isEvent ? EventNames.loose(name) : name;
        Property property = found.get(key);
        if (property == null) {
            property = new Property(name);
            found.put(key, property);
        }
        return property;
    }

    private void collectFields(Class<?> type, Map<String, Property> found, List<Property> all) {
        if (type == null || type == Object.class || type.isInterface()) {
            return;
        }
        collectFields(type.getSuperclass(), found, all);
        for (Field field : type.getDeclaredFields()) {
            int modifiers = field.getModifiers();
            if (Modifier.isStatic(modifiers) || field.isSynthetic()) {
                continue;
            }
            Property property = property(found, field.getName());
            all.add(property);
            if (Modifier.isPublic(modifiers) && !Modifier.isTransient(modifiers)) {
                field.setAccessible(true);
                property.field = field;
                property.type = field.getGenericType();
            }
        }
    }

    private void collectComponents(Map<String, Property> found, List<Property> fields) {
        for (Property property : fields) {
            try {
                property.getter = type.getMethod(property.name);
                property.getter.setAccessible(true);
            } catch (NoSuchMethodException err) {
                // Every component of a record has its accessor.
                throw new JsonException("No accessor " + property.name + " in " + type.getName(), err);
            }
        }
        collectGetters(type, found);
    }

    private void collectMethods(Class<?> type, Map<String, Property> found) {
        collectGetters(type, found);
        for (Class<?> owner = type; owner != null && owner != Object.class; owner = owner.getSuperclass()) {
            for (Method method : owner.getDeclaredMethods()) {
                String name = method.getName();
                boolean usual = !Modifier.isStatic(method.getModifiers()) && !method.isBridge();
                if (usual && name.startsWith("set") && name.length() > 3 && method.getParameterCount() == 1) {
                    offerSetter(property(found, decapitalize(name, 3)), method);
                }
            }
        }
    }

    /** Of several setters the one that fits the getter, else the one for text, else the first. */
    private static void offerSetter(Property property, Method method) {
        Class<?> taken = method.getParameterTypes()[0];
        if (property.setter != null) {
            Class<?> before = property.setter.getParameterTypes()[0];
            Class<?> wanted = property.getter == null ? String.class : property.getter.getReturnType();
            if (before == wanted || (taken != wanted && (before == String.class || taken != String.class))) {
                return;
            }
        }
        method.setAccessible(true);
        property.setter = method;
        property.type = method.getGenericParameterTypes()[0];
    }

    private void collectGetters(Class<?> type, Map<String, Property> found) {
        for (Method method : type.getMethods()) {
            if (Modifier.isStatic(method.getModifiers()) || method.getParameterCount() > 0 || method.isBridge()) {
                continue;
            }
            String name = method.getName();
            Class<?> result = method.getReturnType();
            boolean get = name.startsWith("get") && name.length() > 3 && result != void.class;
            boolean is = name.startsWith("is") && name.length() > 2 && (result == boolean.class || result == Boolean.class);
            if ((get || is) && method.getDeclaringClass() != Object.class && !name.equals("getDeclaringClass")) {
                Property property = property(found, decapitalize(name, get ? 3 : 2));
                if (property.getter == null || get) {
                    method.setAccessible(true);
                    property.getter = method;
                }
            }
        }
    }

    /** The rule of JavaBeans: {@code getURL} is {@code URL}, {@code getName} is {@code name}. */
    private static String decapitalize(String method, int start) {
        String name = method.substring(start);
        if (name.length() > 1 && Character.isUpperCase(name.charAt(1))) {
            return name;
        }
        return name.substring(0, 1).toLowerCase(Locale.ROOT) + name.substring(1);
    }

    private Constructor<?> plainConstructor() {
        try {
            return type.getDeclaredConstructor();
        } catch (NoSuchMethodException err) {
            return null;
        }
    }

    private Constructor<?> constructorOf(List<Property> fields) {
        for (Constructor<?> candidate : type.getDeclaredConstructors()) {
            if (candidate.getParameterCount() == fields.size() && !fields.isEmpty()) {
                return candidate;
            }
        }
        // A record without components.
        return fields.isEmpty() ? plainConstructor() : null;
    }
}
