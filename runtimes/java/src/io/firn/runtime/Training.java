package io.firn.runtime;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/**
 * Loads what a start loads, so that the JVM that runs this can write its classes to an archive for later ones. Plays
 * the Runtime API to itself; runs outside of any sandbox, without a function.
 */
public final class Training implements Runnable {
    private static final int EVENTS = 3;

    private final ServerSocket server;

    private Training(ServerSocket server) {
        this.server = server;
    }

    public static void main(String[] args) throws Throwable {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Thread thread = new Thread(new Training(server));
            thread.setDaemon(true);
            thread.start();
            RuntimeApi api = new RuntimeApi("127.0.0.1:" + server.getLocalPort());
            try (TaskClassLoader loader = new TaskClassLoader(System.getProperty("user.dir"), "/opt/java")) {
                // Once, because it is about classes, not about compiled code.
                new Snapshot(api, new Main(api, null), loader).exercise(1, EVENTS);
            }
        }
    }

    /** Answers everything with an event. */
    @Override
    public void run() {
        byte[] body = "{\"a\":[1,2.5,\"x\",null,true]}".getBytes(StandardCharsets.UTF_8);
        byte[] head = ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + body.length
                + "\r\nLambda-Runtime-Aws-Request-Id: 0\r\nLambda-Runtime-Deadline-Ms: 1\r\n\r\n").getBytes(StandardCharsets.UTF_8);
        try (Socket client = server.accept()) {
            InputStream in = client.getInputStream();
            OutputStream out = client.getOutputStream();
            byte[] request = new byte[65536];
            // Every request arrives in one piece, which is small.
            while (in.read(request) > 0) {
                out.write(head);
                out.write(body);
            }
        } catch (IOException err) {
            // The other side is done.
            return;
        }
    }
}
