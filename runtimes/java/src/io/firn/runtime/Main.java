package io.firn.runtime;

import com.amazonaws.services.lambda.runtime.LambdaRuntimeInternal;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOError;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * firn's client of the Lambda Runtime API for Java 11 and newer: loads the function and serves its events. Behaves as
 * AWS's runtime does, and is written to start fast: no lambdas, no streams, no concatenation by {@code invokedynamic},
 * no logging or HTTP classes of the JDK.
 */
public final class Main {
    // Where aws-xray-sdk-java looks for the trace of the invocation in progress.
    private static final String TRACE_PROPERTY = "com.amazonaws.xray.traceHeader";
    private static final String LAYER_ROOT = "/opt/java";

    private final RuntimeApi api;
    private final Handler handler;
    private final Output output = new Output(1024);

    Main(RuntimeApi api, Handler handler) {
        this.api = api;
        this.handler = handler;
    }

    public static void main(String[] args) throws Throwable {
        // Unbuffered: the sandbox is frozen between invocations, and may be killed.
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new FileOutputStream(FileDescriptor.err), false, StandardCharsets.UTF_8));
        RuntimeApi api = new RuntimeApi(System.getenv("AWS_LAMBDA_RUNTIME_API"));
        String taskRoot = System.getenv("LAMBDA_TASK_ROOT");
        TaskClassLoader loader = new TaskClassLoader(taskRoot == null ? System.getProperty("user.dir") : taskRoot, LAYER_ROOT);
        Main main = new Main(api, load(api, loader));
        Invocation event = null;
        if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) {
            event = new Snapshot(api, main, loader).take();
        }
        while (main.serve(event == null ? api.next() : event)) {
            event = null;
        }
        // Threads of the function do not keep a broken process alive.
        System.exit(0);
    }

    private static Handler load(RuntimeApi api, TaskClassLoader loader) throws IOException {
        Thread.currentThread().setContextClassLoader(loader);
        try {
            return HandlerLoader.load(System.getenv("_HANDLER"), loader);
        } catch (Fault fault) {
            Log.shared().error(fault.report());
            api.postInitError("Runtime.BadFunctionCode", Errors.json(fault));
            System.exit(1);
            throw fault;
        }
    }

    Handler handler() {
        return handler;
    }

    /** Runs one event; {@code false} if the process cannot go on. */
    boolean serve(Invocation invocation) throws IOException {
        try {
            api.postResponse(invocation, call(handler, invocation));
            // The function may have left the thread interrupted.
            Thread.interrupted();
            return true;
        } catch (Fault fault) {
            Log.shared().error(fault.report());
            api.postError(invocation, "Runtime.BadFunctionCode", null, Errors.json(fault));
            return !fault.fatal;
        } catch (Throwable err) {
            fail(invocation, err);
            return !(err instanceof VirtualMachineError || err instanceof IOError);
        }
    }

    /** What {@code handler} answers to the event. */
    Output call(Handler handler, Invocation invocation) throws Throwable {
        if (invocation.traceId != null) {
            System.setProperty(TRACE_PROPERTY, invocation.traceId);
        } else {
            System.clearProperty(TRACE_PROPERTY);
        }
        InvocationContext context = new InvocationContext(invocation);
        Log.shared().enter(context);
        if (LambdaRuntimeInternal.getUseLog4jAppender()) {
            Log4j.enter(invocation.requestId);
        }
        output.clear();
        handler.handle(invocation.event, output, context);
        return output;
    }

    /** Leaves no trace of the last invocation, as if none had been. */
    void forget() {
        System.clearProperty(TRACE_PROPERTY);
        Log.shared().enter(null);
        output.clear();
    }

    private void fail(Invocation invocation, Throwable err) throws IOException {
        Thread.interrupted();
        Errors.withoutOwnFrames(err);
        Log.shared().error(Fault.of(err, false).report());
        api.postError(invocation, "Runtime.UserException", Errors.xrayCause(err), Errors.json(err));
    }
}
