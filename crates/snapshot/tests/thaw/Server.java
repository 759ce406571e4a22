import java.io.*;
import java.net.Socket;
import java.security.SecureRandom;
import java.util.*;
import java.util.concurrent.*;

public class Server {
    static final ScheduledExecutorService timer = Executors.newScheduledThreadPool(1);
    static final ExecutorService pool = Executors.newFixedThreadPool(4);
    static volatile long ticks;
    static long begun = System.nanoTime();

    public static void main(String[] args) throws Exception {
        timer.scheduleAtFixedRate(() -> ticks++, 10, 10, TimeUnit.MILLISECONDS);
        pool.submit(() -> 1).get();
        Socket socket = new Socket("127.0.0.1", 9001);
        BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
        PrintStream out = new PrintStream(socket.getOutputStream(), true);
        out.print("ready\n");
        out.flush();
        for (String line; (line = in.readLine()) != null; ) {
            String answer;
            try {
                answer = answer(line);
            } catch (Throwable error) {
                answer = error.getClass().getSimpleName();
            }
            out.print(answer + "\n");
            out.flush();
        }
    }

    static int deep(int n) { return deep(n + 1) + 1; }

    static String answer(String line) throws Exception {
        switch (line) {
            case "add": return "" + pool.submit(() -> 1 + 2).get();
            case "gc": System.gc(); return "collected";
            case "threads":
                CountDownLatch latch = new CountDownLatch(8);
                for (int i = 0; i < 8; i++) new Thread(latch::countDown).start();
                latch.await();
                return "8";
            case "npe": Object nothing = line.isEmpty() ? line : null; return nothing.toString();
            case "overflow": return "" + deep(0);
            case "scheduled":
                long before = ticks;
                Thread.sleep(100);
                return "" + (ticks > before);
            case "random": return "" + (new SecureRandom().nextLong() != 0 && UUID.randomUUID() != null);
            case "process":
                Process process = new ProcessBuilder("/bin/sh", "-c", "echo $((6*7))").start();
                return new String(process.getInputStream().readAllBytes()).trim();
            case "allocate":
                List<byte[]> all = new ArrayList<>();
                long sum = 0;
                for (int i = 0; i < 20000; i++) {
                    all.add(new byte[10000]);
                    if (all.size() > 2000) all.clear();
                    sum += all.size();
                }
                return "" + (sum > 0);
            case "load": return "" + (new javax.xml.parsers.ParserConfigurationException() != null
                && String.format("%.2f", 1.5).equals("1.50"));
            case "clock":
                long elapsed = System.nanoTime() - begun;
                return "" + (elapsed > 0 && elapsed < 60_000_000_000L);
            default: return "what?";
        }
    }
}
