package io.firn.runtime;

import com.amazonaws.services.lambda.crac.Core;
import com.amazonaws.services.lambda.runtime.Context;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What happens around a SnapStart snapshot: warming up, priming, hooks, fresh randomness. */
final class Snapshot {
    // Enough for the JVM to compile what is called often; tens of milliseconds in all.
    private static final int WARM_EXCHANGES = 100;
    private static final int WARM_ROUNDS = 300;
    private static final int CHUNK_BYTES = 128 * 1024;
    private static final int EXIT_CODE = 64;

    private final RuntimeApi api;
    private final Main main;
    private final TaskClassLoader loader;

    Snapshot(RuntimeApi api, Main main, TaskClassLoader loader) {
        this.api = api;
        this.main = main;
        this.loader = loader;
    }

    /** Returns in a restored process with its first event; {@code null} if that is still to be asked for. */
    Invocation take() throws IOException {
        warmUp();
        Preload.run(loader);
        Jackson.exercise(loader);
        prime();
        Randomness randomness = null;
        Invocation event = null;
        try {
            Core.getGlobalContext().beforeCheckpoint(null);
            randomness = Randomness.collect();
            tidy();
            randomness.dropBuffers();
            Names.forget();
            // Without hooks to run after the restore, the event need not wait for word that it is over.
            if (Core.getGlobalContext() instanceof HookList && ((HookList) Core.getGlobalContext()).isEmpty()) {
                event = api.next();
            } else {
                api.restoreNext();
            }
        } catch (Throwable err) {
            log(err);
            api.postInitError("Runtime.BeforeCheckpointError", Errors.json(err));
            System.exit(EXIT_CODE);
        }
        try {
            randomness.renew();
            Names.forget();
            if (event == null) {
                Core.getGlobalContext().afterRestore(null);
            }
        } catch (Throwable err) {
            log(err);
            // With an event the restore is over, and the platform reports an exit.
            if (event == null) {
                api.postRestoreError("Runtime.AfterRestoreError", Errors.json(err));
            }
            System.exit(EXIT_CODE);
        }
        return event;
    }

    private static void log(Throwable err) {
        Log.shared().error(Fault.of(Errors.withoutOwnFrames(err), true).report());
    }

    /** Events that the function declares safe to run ahead; one that fails is reported like any other. */
    private void prime() throws IOException {
        for (Invocation event = api.nextPriming(); event != null; event = api.nextPriming()) {
            main.serve(event);
        }
        main.forget();
    }

    /** Runs this client's own code, but not the function, so that the first event finds it loaded and compiled. */
    private void warmUp() throws IOException {
        try {
            main.handler().prepare();
        } catch (JsonException | LinkageError err) {
            // Of a type that cannot be used; the first event will say so.
            Errors.withoutOwnFrames(err);
        }
        Bootstraps.run();
        exercise(WARM_ROUNDS, WARM_EXCHANGES);
        main.forget();
    }

    void exercise(int rounds, int exchanges) throws IOException {
        Log log = Log.toNowhere();
        for (int i = 0; i < rounds; i++) {
            warmJson();
            log.log("warm");
        }
        RuntimeException sample = Errors.withoutOwnFrames(new RuntimeException("warm"));
        log.error(Fault.of(sample, false).report());
        Errors.json(sample);
        Errors.xrayCause(sample);
        Handler echo = echo();
        for (int i = 0; i < exchanges; i++) {
            Invocation event = api.warm();
            if (event == null) {
                return;
            }
            api.postWarm(answer(echo, event));
        }
    }

    private Output answer(Handler handler, Invocation event) {
        try {
            return main.call(handler, event);
        } catch (Throwable err) {
            throw new IllegalStateException("the client failed to warm up", err);
        }
    }

    /** A function as simple as can be, of the kind that takes the longest way through this client. */
    private static Handler echo() {
        return HandlerLoader.load(Sample.class.getName() + "::echo", Snapshot.class.getClassLoader());
    }

    private static void warmJson() {
        Map<String, Object> sample = new LinkedHashMap<>();
        sample.put("name", "va\"lue\n");
        sample.put("count", 12);
        sample.put("share", 0.5);
        sample.put("flag", true);
        sample.put("list", new ArrayList<>(List.of("a", 1, false)));
        Sample bean = new Sample();
        bean.setName("x");
        bean.setCount(3);
        bean.setNames(List.of("a", "b"));
        sample.put("bean", bean);
        String json = JsonWriter.write(sample, JavaType.of(Map.class));
        Mapper.read(json, JavaType.of(Object.class));
        Mapper.read(json, JavaType.of(Sample.class));
    }

    /** A bean and a handler as functions have them. */
    public static final class Sample {
        private String name;
        private int count;
        private List<String> names;

        public static Map<String, Object> echo(Map<String, Object> event, Context context) {
            context.getRemainingTimeInMillis();
            return event;
        }

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public int getCount() {
            return count;
        }

        public void setCount(int count) {
            this.count = count;
        }

        public List<String> getNames() {
            return names;
        }

        public void setNames(List<String> names) {
            this.names = names;
        }
    }

    /**
     * Garbage must not be in the image. A collection leaves dead bytes where young objects were; arrays put over them
     * make these pages zero, which an image need not hold, and a second collection frees the arrays.
     */
    private static void tidy() {
        System.gc();
        long young = Runtime.getRuntime().totalMemory() / 3;
        byte[] last = null;
        for (long bytes = 0; bytes < young; bytes += CHUNK_BYTES) {
            last = new byte[CHUNK_BYTES];
        }
        if (last != null && last[0] == 0) {
            System.gc();
        }
    }
}
