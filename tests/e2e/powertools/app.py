"""One function that uses Powertools as its documentation shows it."""

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver, Response
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

logger = Logger(service="orders")
tracer = Tracer(service="orders")
metrics = Metrics(namespace="Shop", service="orders")
app = LambdaFunctionUrlResolver()
batch = BatchProcessor(event_type=EventType.SQS)


@app.get("/orders/<number>")
def order(number: str):
    logger.info("looked up", number=number)
    return {"number": number, "caller": app.current_event.request_context.http.source_ip}


@app.not_found
def nothing(error):
    return Response(status_code=404, content_type="text/plain", body="no such page")


@tracer.capture_method
def double(number: int) -> int:
    return 2 * number


def one_record(record) -> None:
    if record.body == "bad":
        raise ValueError("a bad record")
    logger.info("a record", body=record.body)


@logger.inject_lambda_context(log_event=False, correlation_id_path="order")
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler
def handler(event, context):
    if "Records" in event:
        return process_partial_response(
            event=event, record_handler=one_record, processor=batch, context=context)
    if "rawPath" in event:
        return app.resolve(event, context)
    metrics.add_metric(name="Sold", unit=MetricUnit.Count, value=event["sold"])
    metrics.add_dimension(name="shop", value="north")
    logger.info("sold", sold=event["sold"])
    if event.get("fail"):
        raise RuntimeError("sold out")
    return {"doubled": double(event["sold"]), "remaining_ms": context.get_remaining_time_in_millis()}
