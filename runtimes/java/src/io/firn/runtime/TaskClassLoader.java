package io.firn.runtime;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/**
 * The function's class path: the package itself, the jars in its {@code lib}, those of the layers, each in order of
 * their names. The classes of this client, among them the interfaces of aws-lambda-java-core, come before a package's
 * own copies, as on AWS.
 */
final class TaskClassLoader extends URLClassLoader {
    static {
        registerAsParallelCapable();
    }

    private final Queue<String> found = new ConcurrentLinkedQueue<>();

    TaskClassLoader(String taskRoot, String layerRoot) throws MalformedURLException {
        super(urls(taskRoot, layerRoot), ClassLoader.getSystemClassLoader());
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        Class<?> type = super.findClass(name);
        found.add(name);
        return type;
    }

    Queue<String> found() {
        return found;
    }

    /** The resource of the function or its layers; {@code null} if there is none. */
    InputStream findResourceAsStream(String name) throws IOException {
        URL url = findResource(name);
        return url == null ? null : url.openStream();
    }

    private static URL[] urls(String taskRoot, String layerRoot) throws MalformedURLException {
        List<URL> urls = new ArrayList<>();
        urls.add(url(taskRoot + "/"));
        addJars(taskRoot + "/lib", urls);
        addJars(layerRoot + "/lib", urls);
        return urls.toArray(new URL[0]);
    }

    private static void addJars(String dir, List<URL> urls) throws MalformedURLException {
        String[] names = new File(dir).list();
        if (names == null) {
            return;
        }
        Arrays.sort(names);
        for (String name : names) {
            if (name.endsWith(".jar")) {
                urls.add(url(dir + "/" + name));
            }
        }
    }

    private static URL url(String path) throws MalformedURLException {
        return new URL("file", null, -1, path);
    }
}
