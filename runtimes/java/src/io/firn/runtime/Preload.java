package io.firn.runtime;

import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Loads and links, ahead of a snapshot, the classes that those name which the function has loaded so far, then those that
 * these name, and so on. Each would otherwise cost every environment's first event most of a millisecond. Nothing is
 * initialised: no code of the function runs.
 */
final class Preload {
    private static final int CLASS_FILE = 0xCAFEBABE;
    // A framework names some thousand. They take memory of the function, hence no more than it has room for.
    private static final int MOST_CLASSES = 8000;
    private static final int CLASSES_PER_MB = 4;
    private static final long MOST_NANOS = 5_000_000_000L;

    private final TaskClassLoader loader;
    // How many more there is room for.
    private int left;
    private final long began = System.nanoTime();
    private final Set<String> seen = new HashSet<>();

    private Preload(TaskClassLoader loader, int most) {
        this.loader = loader;
        this.left = most;
    }

    static void run(TaskClassLoader loader) {
        List<String> found = new ArrayList<>(loader.found());
        Preload preload = new Preload(loader, most());
        preload.seen.addAll(found);
        while (!found.isEmpty()) {
            found = preload.load(preload.namedBy(found));
        }
    }

    private static int most() {
        try {
            int memory = Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
            return Math.min(MOST_CLASSES, memory * CLASSES_PER_MB);
        } catch (NumberFormatException err) {
            return 0;
        }
    }

    private List<String> namedBy(List<String> classes) {
        List<String> named = new ArrayList<>();
        for (String name : classes) {
            if (isLate()) {
                break;
            }
            try (InputStream in = loader.findResourceAsStream(path(name))) {
                if (in != null) {
                    readNames(new DataInputStream(in), named);
                }
            } catch (IOException err) {
                // Was there a moment ago; the function will not miss it.
                continue;
            }
        }
        return named;
    }

    /** The classes in a class file's constant pool (JVM specification, 4.4). */
    private void readNames(DataInputStream in, List<String> named) throws IOException {
        if (in.readInt() != CLASS_FILE) {
            return;
        }
        in.readInt();
        int count = in.readUnsignedShort();
        String[] texts = new String[count];
        int[] classes = new int[count];
        for (int i = 1; i < count; i++) {
            int tag = in.readUnsignedByte();
            switch (tag) {
                case 1: texts[i] = in.readUTF(); break;
                case 7: classes[i] = in.readUnsignedShort(); break;
                case 8: case 16: case 19: case 20: in.readUnsignedShort(); break;
                case 15: in.readUnsignedByte(); in.readUnsignedShort(); break;
                case 3: case 4: case 9: case 10: case 11: case 12: case 17: case 18: in.readInt(); break;
                case 5: case 6: in.readLong(); i++; break;
                default: return;
            }
        }
        for (int index : classes) {
            String text = index == 0 ? null : texts[index];
            if (text != null && text.charAt(0) != '[') {
                String name = text.replace('/', '.');
                if (seen.add(name)) {
                    named.add(name);
                }
            }
        }
    }

    /** Those of them that are the function's own. */
    private List<String> load(List<String> names) {
        List<String> own = new ArrayList<>();
        for (String name : names) {
            if (left == 0 || isLate()) {
                break;
            }
            try {
                boolean isOwn = loader.findResource(path(name)) != null;
                if (isOwn || name.startsWith("java.")) {
                    // Asking for the methods links it.
                    Class.forName(name, false, loader).getDeclaredMethods();
                    left--;
                }
                if (isOwn) {
                    own.add(name);
                }
            } catch (ClassNotFoundException | LinkageError | SecurityException err) {
                // What it needs is not packaged: the function does without.
                continue;
            }
        }
        return own;
    }

    private boolean isLate() {
        return System.nanoTime() - began > MOST_NANOS;
    }

    private static String path(String name) {
        return name.replace('.', '/') + ".class";
    }
}
