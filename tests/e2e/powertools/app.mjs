// One function that uses Powertools as its documentation shows it.

import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch'
import { Router } from '@aws-lambda-powertools/event-handler/http'
import { Logger } from '@aws-lambda-powertools/logger'
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import { Tracer } from '@aws-lambda-powertools/tracer'

const logger = new Logger({ serviceName: 'orders' })
const metrics = new Metrics({ namespace: 'Shop', serviceName: 'orders' })
const tracer = new Tracer({ serviceName: 'orders' })
const batch = new BatchProcessor(EventType.SQS)
const app = new Router()

app.get('/orders/:number', async ({ params }) => {
  logger.info('looked up', { number: params.number })
  return { number: params.number }
})

const oneRecord = async (record) => {
  if (record.body === 'bad') throw new Error('a bad record')
  logger.info('a record', { body: record.body })
}

export const handler = async (event, context) => {
  logger.addContext(context)
  if (event.Records) return processPartialResponse(event, oneRecord, batch, { context })
  if (event.rawPath) return app.resolve(event, context)
  const segment = tracer.getSegment()
  metrics.captureColdStartMetric(context.functionName)
  metrics.addMetric('Sold', MetricUnit.Count, event.sold)
  metrics.addDimension('shop', 'north')
  logger.info('sold', { sold: event.sold })
  metrics.publishStoredMetrics()
  if (event.fail) throw new Error('sold out')
  return {
    doubled: 2 * event.sold,
    traced: tracer.isTracingEnabled(),
    root: tracer.getRootXrayTraceId(),
    segment: segment?.name ?? null
  }
}
