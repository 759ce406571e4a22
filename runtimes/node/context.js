'use strict';
// The context object's data, from the headers of an event and the environment.

const { PlatformError } = require('./errors.js');

/** Adds to `context` everything that both clients give a function. Throws on headers that do not parse. */
function fillContext(context, headers, modern) {
  const env = process.env;
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const trace = headers['lambda-runtime-trace-id'];
  if (trace) {
    env._X_AMZN_TRACE_ID = trace;
  } else {
    delete env._X_AMZN_TRACE_ID;
  }
  const { AWS_LAMBDA_FUNCTION_NAME: functionName, AWS_LAMBDA_FUNCTION_VERSION: functionVersion } = env;
  const fields = {
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
  const ofInvocation = {
    clientContext: parse(headers, 'lambda-runtime-client-context', 'ClientContext', modern),
    identity: parse(headers, 'lambda-runtime-cognito-identity', 'CognitoIdentity', modern),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
  };
  const getRemainingTimeInMillis = () => deadline - Date.now();
  // Functions that log the whole object show the order.
  if (modern) {
    const rest = { xRayTraceId: trace, getRemainingTimeInMillis, functionName, functionVersion };
    return Object.assign(context, ofInvocation, rest, fields);
  }
  return Object.assign(context, { functionVersion, functionName }, fields, ofInvocation, { getRemainingTimeInMillis });
}

function parse(headers, header, name, modern) {
  const text = headers[header];
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (err) {
    if (modern) throw new PlatformError(`Failed to parse ${header} as JSON: ${err.message}`);
    throw new Error(`Cannot parse ${name} as json: ${err.toString()}`);
  }
}

module.exports = { fillContext };
