"""Calls the platform it runs on, with boto3 and the role's own credentials."""

import boto3

functions = boto3.client("lambda")


def handler(event, context):
    names = [f["FunctionName"] for f in functions.list_functions()["Functions"]]
    return {"calledAs": context.invoked_function_arn, "functions": names}
