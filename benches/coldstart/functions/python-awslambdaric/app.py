"""A function as most are: the SDK imported and clients constructed at init."""

import time

import boto3

s3 = boto3.client("s3")
table = boto3.resource("dynamodb").Table("orders")


def handler(event, context):
    if pause := event.get("sleep_ms"):
        time.sleep(pause / 1000)
    return {"service": s3.meta.service_model.service_name, "table": table.name}
