package io.firn.runtime;

/** An error that the platform reports without a stack trace, because none of the function's frames would be in it. */
final class Fault extends RuntimeException {
    private static final long serialVersionUID = 1;

    final String exception;
    final String trace;
    /** Whether the process ends with it. */
    final boolean fatal;

    private Fault(String message, String exception, String trace, boolean fatal) {
        super(message, null, false, false);
        this.exception = exception;
        this.trace = trace;
        this.fatal = fatal;
    }

    static Fault of(String message) {
        return new Fault(message, null, null, false);
    }

    static Fault of(Throwable err, boolean fatal) {
        return new Fault(Errors.message(err), err.getClass().getName(), Errors.trace(err), fatal);
    }

    static Fault classNotFound(String className, Throwable err) {
        return new Fault("Class not found: " + className, err.getClass().getName(), Errors.trace(err), false);
    }

    static Fault loading(String className, Throwable err) {
        String message = "Error loading class " + className + (err.getMessage() == null ? "" : ": " + err.getMessage());
        return new Fault(message, err.getClass().getName(), Errors.trace(err), true);
    }

    static Fault loadingMethod(String method, Class<?> type, Throwable err) {
        String message = "Error loading method " + method + " on class " + type.getName();
        return new Fault(message, err.getClass().getName(), Errors.trace(err), false);
    }

    /** What the log says. */
    String report() {
        if (exception == null && trace == null) {
            return getMessage() + "\n";
        }
        return getMessage() + ": " + (exception == null ? "" : exception) + "\n" + (trace == null ? "" : trace) + "\n";
    }
}
