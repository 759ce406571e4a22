"""What goes wrong and how it is told: error objects and their log lines."""

import os
import time
import traceback

import firn_runtime
from firn_runtime import FaultException, to_json

NO_BREAK_SPACE = "\u00a0"
MAX_XRAY_CAUSE_BYTES = 1024 * 1024
INIT_WARNING = (
    "LAMBDA_WARNING: "
    "Unhandled exception. "
    "The most likely cause is an issue in the function code. "
    "However, in rare cases, a Lambda runtime update can cause unexpected function behavior. "
    "For functions using managed runtimes, runtime updates can be triggered by a function change, or can be applied "
    "automatically. "
    "To determine if the runtime has been updated, check the runtime version in the INIT_START log entry. "
    "If this error correlates with a change in the runtime version, you may be able to mitigate this error by "
    "temporarily rolling back to the previous runtime version. "
    "For more information, see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)


def report(api, err, invocation_id):
    """Ends the invocation in progress with an error."""
    request_id = firn_runtime.request_id
    if isinstance(err, FaultException):
        xray_cause = make_xray_cause("LambdaValidationError", err.msg, [])
        error = make_error(err.msg, err.exception_type, err.trace, request_id)
    else:
        frames = frames_of(err)
        name = type(err).__name__
        xray_cause = make_xray_cause(name, str(err), frames)
        error = make_error(str(err), name, traceback.format_list(frames), request_id)
    log_error(error)
    api.post_error(request_id, encode(error), xray_cause, invocation_id)


def report_init(api, err):
    if isinstance(err, FaultException):
        error = make_error(err.msg, err.exception_type, err.trace)
    else:
        error = make_unhandled(err)
    import logging

    logging.warning(INIT_WARNING)
    log_error(error)
    api.post_init_error(encode(error), error["errorType"])


def log_unhandled(err):
    """Logs an error outside of an invocation; returns the body that reports it."""
    error = make_unhandled(err)
    log_error(error)
    return encode(error)


def make_error(message, error_type, stack_trace, request_id=None):
    return {
        "errorMessage": message if message else "",
        "errorType": error_type if error_type else "",
        "requestId": request_id if request_id is not None else "",
        "stackTrace": stack_trace if stack_trace else [],
    }


def make_unhandled(err):
    return make_error(str(err), type(err).__name__, traceback.format_list(frames_of(err)))


def frames_of(err):
    """The frames from the function's own code on, as the plain tuples that are printed without column marks."""
    frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(err.__traceback__)]
    for index, frame in enumerate(frames):
        if frame[0] not in OWN_FILES and "/bootstrap.py" not in frame[0]:
            return frames[index:]
    # The function could not be called; the call tells more than nothing.
    return frames[-1:]


# Bytecode keeps the path it was compiled for, which __file__ need not be.
OWN_FILES = (firn_runtime.main.__code__.co_filename, report.__code__.co_filename)


def make_xray_cause(error_type, message, frames):
    cause = {
        "working_directory": os.getcwd(),
        "exceptions": [
            {
                "message": message,
                "type": error_type,
                "stack": [{"label": frame[2], "path": frame[0], "line": frame[1]} for frame in frames],
            }
        ],
        "paths": list({frame[0] for frame in frames}),
    }
    # It travels in a header, so everything outside ASCII is escaped.
    import json

    text = json.dumps(cause)
    return text if len(text) < MAX_XRAY_CAUSE_BYTES else ""


def encode(error):
    # A message may hold lone surrogates, which no encoding has.
    return to_json(error).encode("utf-8", "replace")


def log_error(error):
    if firn_runtime.LOG_JSON:
        stamped = {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": "ERROR"}
        stamped.update(error)
        firn_runtime.log_sink.log_error([to_json(stamped)])
        return
    description = "[ERROR]"
    if error["errorType"]:
        description += " " + error["errorType"]
    if error["errorMessage"]:
        if error["errorType"]:
            description += ":"
        description += " " + error["errorMessage"]
    lines = [description, "Traceback (most recent call last):"]
    for element in error["stackTrace"]:
        lines.extend(indented(line) for line in element.splitlines()) if element else lines.append("")
    firn_runtime.log_sink.log_error(lines)


def indented(line):
    """Log viewers swallow plain spaces at the start of a line."""
    text = line.lstrip(" ")
    return NO_BREAK_SPACE * (len(line) - len(text)) + text
