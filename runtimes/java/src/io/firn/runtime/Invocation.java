package io.firn.runtime;

/** One event as the Runtime API hands it out. */
final class Invocation {
    final byte[] event;
    final String requestId;
    final String invocationId;
    final String functionArn;
    final String traceId;
    final String clientContext;
    final String cognitoIdentity;
    final String tenantId;
    final long deadlineMs;

    Invocation(RuntimeApi.Answer answer) {
        event = answer.body;
        requestId = answer.header("Lambda-Runtime-Aws-Request-Id");
        invocationId = answer.header("Lambda-Runtime-Invocation-Id");
        functionArn = answer.header("Lambda-Runtime-Invoked-Function-Arn");
        traceId = answer.header("Lambda-Runtime-Trace-Id");
        clientContext = answer.header("Lambda-Runtime-Client-Context");
        cognitoIdentity = answer.header("Lambda-Runtime-Cognito-Identity");
        tenantId = answer.header("Lambda-Runtime-Aws-Tenant-Id");
        String deadline = answer.header("Lambda-Runtime-Deadline-Ms");
        deadlineMs = deadline == null ? 0 : Long.parseLong(deadline);
    }
}
