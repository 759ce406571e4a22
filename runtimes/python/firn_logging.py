"""Sets up the logging module as awslambdaric does; called when the function imports it."""

import os
import time

import firn_runtime
from firn_runtime import JSON_FRAME, LOG_JSON, TEXT_FRAME, frame_type

DATE_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
# Attributes every record has; what else is on a record came with `extra` and is logged.
USUAL = {
    "name",
    "msg",
    "args",
    "levelname",
    "levelno",
    "pathname",
    "filename",
    "module",
    "exc_info",
    "exc_text",
    "stack_info",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "relativeCreated",
    "thread",
    "threadName",
    "processName",
    "process",
    "aws_request_id",
    "tenant_id",
    "_frame_type",
}


def configure(logging, log_sink):
    """Gives the root logger a handler that writes to `log_sink`. `logging` has just been imported."""
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL")
    level = {None: "", "TRACE": "DEBUG"}.get(level, level).upper()
    logging.Formatter.converter = time.gmtime

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = firn_runtime.request_id or ""
            record.tenant_id = firn_runtime.tenant_id
            return True

    class LambdaLoggerHandler(logging.Handler):
        def __init__(self):
            logging.Handler.__init__(self)
            self.log_sink = log_sink

        def emit(self, record):
            self.log_sink.log(self.format(record))

    class LambdaLoggerHandlerWithFrameType(LambdaLoggerHandler):
        def emit(self, record):
            text = self.format(record)
            kind = getattr(record, "_frame_type", None) or frame_type(TEXT_FRAME, rounded_level(record))
            self.log_sink.log(text, frame_type=kind)

    handler = LambdaLoggerHandlerWithFrameType() if LOG_JSON or level else LambdaLoggerHandler()
    if LOG_JSON:
        handler.setFormatter(make_json_formatter(logging))
    else:
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n",
                "%Y-%m-%dT%H:%M:%S",
            )
        )
    root = logging.getLogger()
    if level in logging._nameToLevel:
        root.setLevel(level)
    handler.addFilter(LambdaLoggerFilter())
    root.addHandler(handler)


def rounded_level(record):
    return min(50, max(0, record.levelno)) // 10 * 10


def make_json_formatter(logging):
    import json

    # Values that JSON has no form for are logged as text rather than lost with the whole record.
    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    class JsonFormatter(logging.Formatter):
        def __init__(self):
            super().__init__(datefmt=DATE_FORMAT)

        def format(self, record):
            record.levelno = rounded_level(record)
            record.levelname = logging.getLevelName(record.levelno)
            record._frame_type = frame_type(JSON_FRAME, record.levelno)
            result = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": record.levelname,
                "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
                "logger": record.name,
                **describe_exception(record),
                "requestId": getattr(record, "aws_request_id", None),
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if record.exc_info else None,
            }
            if getattr(record, "tenant_id", None) is not None:
                result["tenantId"] = record.tenant_id
            for key, value in record.__dict__.items():
                if key not in USUAL and key not in result:
                    result[key] = value
            return encode({key: value for key, value in result.items() if value is not None}) + "\n"

    return JsonFormatter()


def describe_exception(record):
    if not record.exc_info:
        return {"stackTrace": None, "errorType": None, "errorMessage": None}
    import traceback

    error_type, error, trace = record.exc_info
    return {
        "stackTrace": traceback.format_tb(trace),
        "errorType": error_type.__name__,
        "errorMessage": str(error),
    }
