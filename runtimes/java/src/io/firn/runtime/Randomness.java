package io.firn.runtime;

import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Makes processes from one snapshot draw different random numbers: what the JDK keeps in static fields and in threads
 * gets new seeds. Generators that only the function's own objects hold ({@code new Random()}, SHA1PRNG, DRBG) are out of
 * reach; a hook has to renew those. {@code new SecureRandom()} and {@code UUID.randomUUID()} read the kernel's
 * generator, through a buffer that is emptied here.
 *
 * <p>Everything is looked up before the snapshot, so that the restored process only writes values. The jar's manifest
 * opens the packages. Fields differ between versions of Java, so each is optional.
 */
final class Randomness {
    private static final String[] SEEDERS = {
        "java.util.Random#seedUniquifier",
        "java.util.concurrent.ThreadLocalRandom#seeder",
        "java.util.SplittableRandom#defaultGen",
        "jdk.internal.util.random.RandomSupport#seeder",
    };
    private static final String[] ALGORITHMS = {
        "L32X64MixRandom", "L64X128MixRandom", "L64X128StarStarRandom", "L64X256MixRandom", "L64X1024MixRandom",
        "L128X128MixRandom", "L128X256MixRandom", "L128X1024MixRandom", "Xoroshiro128PlusPlus", "Xoshiro256PlusPlus",
    };
    private static final String PROVIDER = "sun.security.provider.";

    private final List<AtomicLong> seeders = new ArrayList<>();
    private final List<Random> generators = new ArrayList<>();
    private final List<Object> buffers = new ArrayList<>();
    private Field buffered;
    private Object sha1Seeder;
    private Field threadSeed;

    private Randomness() {}

    static Randomness collect() throws IOException {
        Randomness randomness = new Randomness();
        randomness.findSeeders();
        randomness.findGenerators();
        randomness.findBuffers();
        randomness.threadSeed = field(Thread.class, "threadLocalRandomSeed");
        // Loads what renewing uses.
        randomness.renew();
        return randomness;
    }

    private void findSeeders() {
        for (String name : SEEDERS) {
            int hash = name.indexOf('#');
            addSeeder(name.substring(0, hash), name.substring(hash + 1));
        }
        for (String algorithm : ALGORITHMS) {
            addSeeder("jdk.random." + algorithm, "defaultGen");
            addSeeder("jdk.internal.random." + algorithm, "defaultGen");
        }
    }

    private void addSeeder(String className, String name) {
        Object value = staticValue(className, name);
        if (value instanceof AtomicLong) {
            seeders.add((AtomicLong) value);
        }
    }

    private void findGenerators() {
        // The one behind Math.random, and the one of Collections.shuffle if it is there yet.
        Math.random();
        Object[] found = {
            staticValue("java.lang.Math$RandomNumberGeneratorHolder", "randomNumberGenerator"),
            staticValue("java.lang.StrictMath$RandomNumberGeneratorHolder", "randomNumberGenerator"),
            staticValue("java.util.Collections", "r"),
        };
        for (Object value : found) {
            if (value instanceof Random) {
                generators.add((Random) value);
            }
        }
    }

    /** The classes are initialised exactly if they hold the kernel's generator open. */
    private void findBuffers() {
        if (!isOpen("/dev/urandom") && !isOpen("/dev/random")) {
            return;
        }
        for (String kind : new String[] {"NativePRNG", "NativePRNG$Blocking", "NativePRNG$NonBlocking"}) {
            Object io = staticValue(PROVIDER + kind, "INSTANCE");
            if (io != null) {
                buffers.add(io);
                buffered = field(io.getClass(), "buffered");
            }
        }
        sha1Seeder = staticValue(PROVIDER + "SecureRandom$SeederHolder", "seeder");
    }

    private static boolean isOpen(String device) {
        String[] descriptors = new File("/proc/self/fd").list();
        if (descriptors == null) {
            return true;
        }
        for (String descriptor : descriptors) {
            try {
                if (device.equals(new File("/proc/self/fd/" + descriptor).getCanonicalPath())) {
                    return true;
                }
            } catch (IOException err) {
                // Closed in the meantime: the listing itself was one of them.
                continue;
            }
        }
        return false;
    }

    /** Bytes that were read from the kernel but not given out. */
    void dropBuffers() {
        for (Object io : buffers) {
            try {
                buffered.setInt(io, 0);
            } catch (ReflectiveOperationException | RuntimeException err) {
                throw new IllegalStateException("the JVM's buffer of random bytes cannot be emptied", err);
            }
        }
    }

    /** Everything reachable gets a seed from the kernel. */
    void renew() throws IOException {
        dropBuffers();
        try (DataInputStream kernel = new DataInputStream(new FileInputStream("/dev/urandom"))) {
            for (AtomicLong seeder : seeders) {
                seeder.set(kernel.readLong());
            }
            for (Random generator : generators) {
                generator.setSeed(kernel.readLong());
            }
            renewThreads(kernel);
            renewSha1(kernel);
        }
    }

    private void renewThreads(DataInputStream kernel) throws IOException {
        if (threadSeed == null) {
            return;
        }
        // Makes sure that this thread has a generator: only then does its seed count.
        ThreadLocalRandom.current();
        ThreadGroup root = Thread.currentThread().getThreadGroup();
        while (root.getParent() != null) {
            root = root.getParent();
        }
        Thread[] threads = new Thread[root.activeCount() + 16];
        int count = root.enumerate(threads, true);
        for (int i = 0; i < count; i++) {
            try {
                threadSeed.setLong(threads[i], kernel.readLong());
            } catch (IllegalAccessException err) {
                throw new IllegalStateException(err);
            }
        }
    }

    /** New SHA1PRNG generators take their seed from this one. */
    private void renewSha1(DataInputStream kernel) throws IOException {
        if (sha1Seeder == null) {
            return;
        }
        byte[] seed = new byte[20];
        kernel.readFully(seed);
        try {
            Method setSeed = sha1Seeder.getClass().getDeclaredMethod("engineSetSeed", byte[].class);
            setSeed.setAccessible(true);
            setSeed.invoke(sha1Seeder, (Object) seed);
        } catch (InvocationTargetException err) {
            throw new IllegalStateException(err.getCause());
        } catch (ReflectiveOperationException err) {
            throw new IllegalStateException(err);
        }
    }

    private static Object staticValue(String className, String name) {
        try {
            Field field = field(Class.forName(className), name);
            return field == null ? null : field.get(null);
        } catch (ReflectiveOperationException | LinkageError err) {
            return null;
        }
    }

    private static Field field(Class<?> type, String name) {
        try {
            Field field = type.getDeclaredField(name);
            field.setAccessible(true);
            return field;
        } catch (ReflectiveOperationException | RuntimeException err) {
            return null;
        }
    }
}
