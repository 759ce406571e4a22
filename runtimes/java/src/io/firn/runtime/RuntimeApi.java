package io.firn.runtime;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * The Runtime API over one kept-alive connection; every request leaves in one write. Written by hand because the JDK's
 * HTTP clients load hundreds of classes and start threads.
 */
final class RuntimeApi {
    private static final String VERSION = "/2018-06-01/runtime";
    private static final int MAX_HEAD_BYTES = 1024 * 1024;
    private static final int MAX_CAUSE_BYTES = 1024 * 1024;

    private final String host;
    private final int port;
    private final String common;
    private final byte[] next;
    private Socket socket;
    private InputStream in;
    private OutputStream out;
    private byte[] buffer = new byte[8192];
    private int position;
    private int limit;
    private boolean anythingRead;

    RuntimeApi(String address) {
        int colon = address.lastIndexOf(':');
        String name = address.substring(0, colon);
        host = name.startsWith("[") ? name.substring(1, name.length() - 1) : name;
        port = Integer.parseInt(address.substring(colon + 1));
        common = "Host: " + address + "\r\nUser-Agent: aws-lambda-java/" + System.getProperty("java.version") + "-firn\r\n";
        next = head("GET", "/invocation/next", "");
    }

    /** An answer: status, headers as pairs of name and value, body. */
    static final class Answer {
        final int status;
        private final List<String> headers;
        byte[] body;

        Answer(int status, List<String> headers) {
            this.status = status;
            this.headers = headers;
        }

        String header(String name) {
            for (int i = 0; i < headers.size(); i += 2) {
                if (headers.get(i).equalsIgnoreCase(name)) {
                    return headers.get(i + 1);
                }
            }
            return null;
        }
    }

    /** Waits for the next event. */
    Invocation next() throws IOException {
        return new Invocation(expect(exchange(next, true), 200, "/invocation/next"));
    }

    /** The next event to warm up with; {@code null} when there is no more, or the server knows no priming. */
    Invocation nextPriming() throws IOException {
        Answer answer = exchange(head("GET", "/firn/priming/next", ""), false);
        return answer.status == 200 ? new Invocation(answer) : null;
    }

    /** An event that must not reach the handler; {@code null} if the server offers none. */
    Invocation warm() throws IOException {
        Answer answer = exchange(head("GET", "/firn/warm", ""), false);
        return answer.status == 200 ? new Invocation(answer) : null;
    }

    void postWarm(Output body) throws IOException {
        post("/firn/warm", "Content-Type: application/json\r\n", body);
    }

    /** Blocks until this process is a restored one. */
    void restoreNext() throws IOException {
        expect(exchange(head("GET", "/restore/next", ""), true), 200, "/restore/next");
    }

    void postResponse(Invocation invocation, Output body) throws IOException {
        String path = "/invocation/" + invocation.requestId + "/response";
        expectSuccess(post(path, echo(invocation) + "Content-Type: application/json\r\n", body), path);
    }

    void postError(Invocation invocation, String type, String xrayCause, Output body) throws IOException {
        String path = "/invocation/" + invocation.requestId + "/error";
        String headers = echo(invocation) + errorHeaders(type);
        if (xrayCause != null && xrayCause.length() < MAX_CAUSE_BYTES) {
            headers += "Lambda-Runtime-Function-XRay-Error-Cause: " + xrayCause + "\r\n";
        }
        expectSuccess(post(path, headers, body), path);
    }

    void postInitError(String type, Output body) throws IOException {
        expectSuccess(post("/init/error", errorHeaders(type), body), "/init/error");
    }

    void postRestoreError(String type, Output body) throws IOException {
        expectSuccess(post("/restore/error", errorHeaders(type), body), "/restore/error");
    }

    private static String errorHeaders(String type) {
        return "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: " + type + "\r\n";
    }

    private static String echo(Invocation invocation) {
        String id = invocation.invocationId;
        return id == null ? "" : "Lambda-Runtime-Invocation-Id: " + id + "\r\n";
    }

    private static Answer expect(Answer answer, int status, String path) throws IOException {
        if (answer.status != status) {
            throw new IOException("The Runtime API answered " + answer.status + " to " + VERSION + path);
        }
        return answer;
    }

    private static void expectSuccess(Answer answer, String path) throws IOException {
        if (answer.status < 200 || answer.status >= 300) {
            expect(answer, 202, path);
        }
    }

    private byte[] head(String method, String path, String headers) {
        String head = method + " " + VERSION + path + " HTTP/1.1\r\n" + common + headers + "\r\n";
        return head.getBytes(StandardCharsets.ISO_8859_1);
    }

    private Answer post(String path, String headers, Output body) throws IOException {
        byte[] head = head("POST", path, headers + "Content-Length: " + body.size() + "\r\n");
        byte[] request = new byte[head.length + body.size()];
        System.arraycopy(head, 0, request, 0, head.length);
        body.copyTo(request, head.length);
        return exchange(request, false);
    }

    /**
     * {@code waits} says that the answer may be long in coming. The connection is then lost for reasons outside (the
     * environment was frozen and thawed meanwhile), and the request, which changes nothing, is sent again.
     */
    private Answer exchange(byte[] request, boolean waits) throws IOException {
        boolean reused = socket != null;
        anythingRead = false;
        try {
            return attempt(request);
        } catch (SocketException | EOFException err) {
            drop();
            if (!waits && (!reused || anythingRead)) {
                throw err;
            }
        }
        // The server may have closed an idle connection; it has seen nothing of this request then.
        return attempt(request);
    }

    private Answer attempt(byte[] request) throws IOException {
        if (socket == null) {
            connect();
        }
        out.write(request);
        return read();
    }

    private void connect() throws IOException {
        Socket fresh = new Socket();
        fresh.connect(new InetSocketAddress(InetAddress.getByName(host), port));
        fresh.setTcpNoDelay(true);
        in = fresh.getInputStream();
        out = fresh.getOutputStream();
        position = 0;
        limit = 0;
        socket = fresh;
    }

    private void drop() {
        if (socket != null) {
            try {
                socket.close();
            } catch (IOException ignored) {
                // It is given up either way.
            }
            socket = null;
        }
    }

    private Answer read() throws IOException {
        Answer answer = readHead();
        while (answer.status < 200) {
            answer = readHead();
        }
        String length = answer.header("Content-Length");
        if (length != null) {
            answer.body = new byte[Integer.parseInt(length)];
            readFully(answer.body);
        } else if ("chunked".equalsIgnoreCase(answer.header("Transfer-Encoding"))) {
            answer.body = readChunks();
        } else {
            answer.body = new byte[0];
        }
        if ("close".equalsIgnoreCase(answer.header("Connection"))) {
            drop();
        }
        return answer;
    }

    private Answer readHead() throws IOException {
        String line = readLine();
        int space = line.indexOf(' ');
        if (space < 0 || line.length() < space + 4) {
            throw new IOException("The Runtime API answered no HTTP: " + line);
        }
        int status = Integer.parseInt(line.substring(space + 1, space + 4));
        List<String> headers = new ArrayList<>(24);
        int bytes = 0;
        for (line = readLine(); !line.isEmpty(); line = readLine()) {
            bytes += line.length();
            int colon = line.indexOf(':');
            if (colon > 0 && bytes < MAX_HEAD_BYTES) {
                headers.add(line.substring(0, colon));
                headers.add(line.substring(colon + 1).trim());
            }
        }
        return new Answer(status, headers);
    }

    private String readLine() throws IOException {
        int scanned = position;
        while (true) {
            for (; scanned < limit; scanned++) {
                if (buffer[scanned] == '\n') {
                    int end = scanned > position && buffer[scanned - 1] == '\r' ? scanned - 1 : scanned;
                    String line = new String(buffer, position, end - position, StandardCharsets.UTF_8);
                    position = scanned + 1;
                    return line;
                }
            }
            scanned -= position;
            fill();
            scanned += position;
        }
    }

    /** Reads more behind what is there, moving that to the front. */
    private void fill() throws IOException {
        if (position > 0) {
            System.arraycopy(buffer, position, buffer, 0, limit - position);
            limit -= position;
            position = 0;
        }
        if (limit == buffer.length) {
            if (limit >= MAX_HEAD_BYTES) {
                throw new IOException("The Runtime API sent an endless line");
            }
            byte[] larger = new byte[buffer.length * 2];
            System.arraycopy(buffer, 0, larger, 0, limit);
            buffer = larger;
        }
        int count = in.read(buffer, limit, buffer.length - limit);
        if (count < 0) {
            throw new EOFException("The Runtime API closed the connection");
        }
        anythingRead = true;
        limit += count;
    }

    private void readFully(byte[] target) throws IOException {
        int have = Math.min(target.length, limit - position);
        System.arraycopy(buffer, position, target, 0, have);
        position += have;
        while (have < target.length) {
            int count = in.read(target, have, target.length - have);
            if (count < 0) {
                throw new EOFException("The Runtime API closed the connection within an answer");
            }
            have += count;
        }
    }

    private byte[] readChunks() throws IOException {
        Output body = new Output(4096);
        while (true) {
            String line = readLine();
            int extension = line.indexOf(';');
            int size = Integer.parseInt((extension < 0 ? line : line.substring(0, extension)).trim(), 16);
            if (size == 0) {
                // Trailers are of no use here, but they must be read.
                while (!readLine().isEmpty()) {
                    continue;
                }
                return body.toByteArray();
            }
            byte[] chunk = new byte[size];
            readFully(chunk);
            body.write(chunk, 0, size);
            readLine();
        }
    }
}
